#include "remote/pipeline.hpp"

#include "pg/error.hpp"
#include "remote/statements.hpp"

namespace order_proc::remote {

namespace {

void note_step(Connection& connection, Step step) {
  // A pipeline is a handful of steps: savepoints nest as deep as the user's, see transaction.cpp.
  if (connection.step_count == connection.steps.size())
    ereport(ERROR, errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
            errmsg("too many nested savepoints for a call on a shard"),
            errhint("Touch the shard at an outer level of the transaction first."));
  connection.steps[connection.step_count++] = step;
}

void require(bool sent, Connection& connection) {
  if (!sent) raise_lost(connection);
}

/// The version that is prepared on the connection; its place is in TopMemoryContext.
uint32& prepared_version(Connection& connection, const Statement& statement) {
  if (statement.id >= connection.prepared_count) {
    const uint32 room = std::max<uint32>(64, statement.id * 2);
    auto* const versions =
        static_cast<uint32*>(MemoryContextAllocZero(TopMemoryContext, sizeof(uint32) * room));
    if (connection.prepared != nullptr) {
      std::copy_n(connection.prepared, connection.prepared_count, versions);
      pfree(connection.prepared);
    }
    connection.prepared = versions;
    connection.prepared_count = room;
  }
  return connection.prepared[statement.id];
}

template <typename T>
const T* pointer_or_null(std::span<const T> values) {
  return values.empty() ? nullptr : values.data();
}

void take_result(Connection& connection, PGresult* result) {
  PQclear(connection.result);
  connection.result = result;
}

/// The step whose results come now.
Step present_step(const Connection& connection) {
  return connection.step_at < connection.step_count ? connection.steps[connection.step_at]
                                                    : Step::control;
}

/// Notes what a Parse brought about.
void step_ended(Connection& connection) {
  if (present_step(connection) == Step::parse && connection.error == nullptr)
    connection.prepared[connection.parsing.id] = connection.parsing.version;
  ++connection.step_at;
  connection.row_mode_set = false;
}

void pipeline_ended(Connection& connection) {
  connection.in_flight = false;
  connection.step_count = connection.step_at = 0;
  connection.streaming = false;
  connection.left_open |= connection.alone && connection.error != nullptr;
  connection.alone = false;
  connection.last_used = GetCurrentTimestamp();
}

/// Nothing that we send begins a COPY, and libpq hands such a result out again and again.
bool is_copy(const PGresult* result) {
  const ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/// What to make of a result: the caller's (true), or kept or dropped here.
bool keep_result(Connection& connection, PGresult* result) {
  switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
    case PGRES_COMMAND_OK:
      if (present_step(connection) == Step::call) {
        take_result(connection, result);
        return true;
      }
      PQclear(result);
      return false;
    case PGRES_FATAL_ERROR:
      // What the pipeline set is undone with it.
      connection.settings.known = false;
      if (connection.error == nullptr)
        connection.error = result;
      else
        PQclear(result);
      return false;
    default:
      PQclear(result);
      return false;
  }
}

bool lost(const Connection& connection) {
  return connection.lost || PQstatus(connection.link) == CONNECTION_BAD;
}

void flush(Connection& connection) {
  if (PQflush(connection.link) < 0) connection.lost = true;
}

/// Takes what has come; the connection is lost when that fails.
void consume(Connection& connection) {
  if (PQconsumeInput(connection.link) == 0) connection.lost = true;
  flush(connection);
}

}  // namespace

void queue(Connection& connection, Statement& statement, Step step, const Parameters& parameters) {
  if (connection.pooled) return queue_text(connection, statement.text, step, parameters);
  if (statement.id == 0) number(statement);
  const auto count = static_cast<int>(parameters.values.size());
  uint32& prepared = prepared_version(connection, statement);
  if (prepared != statement.version) {
    // One Parse a pipeline: what its end means is noted under one name.
    if (connection.parsing.id != 0) return queue_text(connection, statement.text, step, parameters);
    if (prepared != 0) {
      const auto old = name_of(statement.id, prepared);
      prepared = 0;
      queue_text(connection, psprintf("DEALLOCATE %s", old.data()), Step::control, {});
    }
    note_step(connection, Step::parse);
    require(PQsendPrepare(connection.link, statement.name.data(), statement.text, count,
                          pointer_or_null(parameters.types)) == 1,
            connection);
    connection.parsing = {statement.id, statement.version};
  }
  note_step(connection, step);
  require(
      PQsendQueryPrepared(connection.link, statement.name.data(), count,
                          pointer_or_null(parameters.values), pointer_or_null(parameters.lengths),
                          pointer_or_null(parameters.formats), parameters.result_format) == 1,
      connection);
}

void queue_text(Connection& connection, const char* text, Step step, const Parameters& parameters) {
  note_step(connection, step);
  require(PQsendQueryParams(connection.link, text, static_cast<int>(parameters.values.size()),
                            pointer_or_null(parameters.types), pointer_or_null(parameters.values),
                            pointer_or_null(parameters.lengths),
                            pointer_or_null(parameters.formats), parameters.result_format) == 1,
          connection);
}

void queue_sync(Connection& connection) {
  if (connection.step_count == 0) return;
  require(PQpipelineSync(connection.link) == 1, connection);
  ++connection.inner_syncs;
}

void send(Connection& connection, bool streaming) {
  PQclear(connection.error);
  connection.error = nullptr;
  connection.streaming = streaming;
  connection.row_mode_set = false;
  connection.in_flight = true;
  require(PQpipelineSync(connection.link) == 1, connection);
  flush(connection);
}

std::optional<PGresult*> result_if_any(Connection& connection) {
  while (connection.in_flight) {
    if (connection.streaming && !connection.row_mode_set && present_step(connection) == Step::call)
      // Not yet while the Sync before it is still to come.
      connection.row_mode_set = PQsetSingleRowMode(connection.link) == 1;
    if (PQisBusy(connection.link) == 1) {
      if (!lost(connection)) return std::nullopt;
    }
    PGresult* result = PQgetResult(connection.link);
    if (result != nullptr && is_copy(result)) {
      PQclear(result);
      result = nullptr;
      connection.lost = true;
    }
    if (result == nullptr) {
      if (lost(connection)) {
        connection.lost = true;
        pipeline_ended(connection);
        break;
      }
      step_ended(connection);
    } else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC && connection.inner_syncs > 0) {
      PQclear(result);
      --connection.inner_syncs;
    } else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
      PQclear(result);
      connection.parsing = {};
      pipeline_ended(connection);
    } else if (keep_result(connection, result)) {
      return result;
    }
  }
  return nullptr;
}

bool wait_for_any(std::span<Connection* const> connections, Interrupts interrupts,
                  Deadline deadline) {
  constexpr std::size_t most = 64;
  std::array<pollfd, most> few;
  pollfd* descriptors = few.data();
  if (connections.size() > most)
    descriptors = static_cast<pollfd*>(palloc(sizeof(pollfd) * connections.size()));
  std::size_t count = 0;
  for (Connection* const connection : connections) {
    if (!connection->in_flight) continue;
    if (lost(*connection)) return true;
    const int pending = PQflush(connection->link);
    const auto events = static_cast<short>(pending == 1 ? POLLIN | POLLOUT : POLLIN);
    descriptors[count++] = {PQsocket(connection->link), events, 0};
  }
  bool ready = true;
  if (count > 0) ready = wait_ready({descriptors, count}, deadline, interrupts);
  std::size_t at = 0;
  for (Connection* const connection : connections) {
    if (!connection->in_flight || at >= count) continue;
    if (ready && descriptors[at].revents != 0) consume(*connection);
    ++at;
  }
  if (descriptors != few.data()) pfree(descriptors);
  return ready;
}

void flush_all(std::span<Connection* const> connections) {
  auto** const pending =
      static_cast<Connection**>(palloc(sizeof(Connection*) * (connections.size() + 1)));
  for (;;) {
    std::size_t count = 0;
    for (Connection* const connection : connections)
      if (connection->in_flight && !lost(*connection) && PQflush(connection->link) == 1)
        pending[count++] = connection;
    if (count == 0) break;
    (void)wait_for_any({pending, count}, Interrupts::serve, never);
  }
  pfree(pending);
}

PGresult* next_result(Connection& connection, Interrupts interrupts, Deadline deadline) {
  Connection* const one[] = {&connection};
  for (;;) {
    if (const auto result = result_if_any(connection)) return *result;
    if (!wait_for_any(one, interrupts, deadline)) return nullptr;
  }
}

bool finish_all(std::span<Connection* const> connections, Interrupts interrupts,
                Deadline deadline) {
  for (;;) {
    bool busy = false;
    for (Connection* const connection : connections) {
      std::optional<PGresult*> result;
      do result = result_if_any(*connection);
      while (result && *result != nullptr);
      busy |= !result;
    }
    if (!busy) return true;
    // Rows that come without a pause leave nothing to wait for.
    if (passed(deadline) || !wait_for_any(connections, interrupts, deadline)) return false;
  }
}

int error_code(const Connection& connection) {
  if (connection.error == nullptr) return 0;
  const char* const state = PQresultErrorField(connection.error, PG_DIAG_SQLSTATE);
  if (state == nullptr) return ERRCODE_CONNECTION_FAILURE;
  return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

const char* error_message(const Connection& connection) {
  const char* const text = connection.error == nullptr
                               ? nullptr
                               : PQresultErrorField(connection.error, PG_DIAG_MESSAGE_PRIMARY);
  return text == nullptr ? "the connection was lost" : text;
}

bool was_fatal(const Connection& connection) {
  if (connection.error == nullptr) return false;
  const char* const name = PQresultErrorField(connection.error, PG_DIAG_SEVERITY_NONLOCALIZED);
  // Without a severity it is libpq that tells of the loss.
  const std::string_view severity = name == nullptr ? "FATAL" : name;
  return severity == "FATAL" || severity == "PANIC";
}

namespace {

const char* field(const PGresult* result, int code) {
  const char* const text = PQresultErrorField(result, code);
  return text == nullptr ? nullptr : pstrdup(text);
}

int name_field(int code, const char* value) {
  return value == nullptr ? 0 : err_generic_string(code, value);
}

}  // namespace

bool session_gone(const Connection& connection) {
  return connection.lost && (connection.error == nullptr || was_fatal(connection));
}

void raise_error(Connection& connection, bool closing) {
  if (connection.error == nullptr) {
    if (connection.lost) raise_lost(connection);
    return;
  }
  if (was_fatal(connection)) raise_lost(connection);
  const int code = error_code(connection);
  const char* const message = field(connection.error, PG_DIAG_MESSAGE_PRIMARY);
  if (message == nullptr) raise_lost(connection);
  const char* const detail = field(connection.error, PG_DIAG_MESSAGE_DETAIL);
  const char* const hint = field(connection.error, PG_DIAG_MESSAGE_HINT);
  const char* const context = field(connection.error, PG_DIAG_CONTEXT);
  const std::array names{
      std::pair{PG_DIAG_SCHEMA_NAME, field(connection.error, PG_DIAG_SCHEMA_NAME)},
      std::pair{PG_DIAG_TABLE_NAME, field(connection.error, PG_DIAG_TABLE_NAME)},
      std::pair{PG_DIAG_COLUMN_NAME, field(connection.error, PG_DIAG_COLUMN_NAME)},
      std::pair{PG_DIAG_CONSTRAINT_NAME, field(connection.error, PG_DIAG_CONSTRAINT_NAME)}};
  PQclear(connection.error);
  connection.error = nullptr;
  if (closing) close_connection(connection);
  ereport(ERROR, errcode(code), errmsg_internal("%s", message),
          detail == nullptr ? 0 : errdetail_internal("%s", detail),
          hint == nullptr ? 0 : errhint("%s", hint),
          context == nullptr ? 0 : errcontext_msg("%s", context),
          errcontext_msg("shard %d (server \"%s\")", connection.shard_id,
                         server_name(connection.server)),
          name_field(names[0].first, names[0].second), name_field(names[1].first, names[1].second),
          name_field(names[2].first, names[2].second), name_field(names[3].first, names[3].second));
}

}  // namespace order_proc::remote
