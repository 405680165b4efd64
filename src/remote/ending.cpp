// How transactions on shards end. The callbacks follow PostgreSQL's rules: before the commit
// anything may raise, afterwards and in an abort nothing may. A connection whose state cannot be
// told in time is closed, which rolls back what it had open.
#include "failpoints.hpp"
#include "pg/alone.hpp"
#include "pg/error.hpp"
#include "pg/interrupts.hpp"
#include "remote/cancel.hpp"
#include "remote/limits.hpp"
#include "remote/pipeline.hpp"
#include "remote/transaction.hpp"

namespace order_proc::remote {

int commit_timeout = 2000;

namespace {

/// order_proc.commit_with_call
bool may_commit_with_call = true;

/// The present transaction was committed on its shard in the message of its call, and interrupts
/// are held.
bool was_committed_with_call = false;

/// The abort of a subtransaction needs the connection, and waits longer than abort_timeout.
constexpr int subtransaction_abort_timeout = 1000;

CommitProtocol commit_protocol{};

Statement commit_statement{"COMMIT"};

template <typename F>
void for_each_open(F&& use) {
  for (Connection* connection = first_connection(); connection != nullptr;
       connection = connection->next)
    if (connection->link != nullptr) use(*connection);
}

/// Those with a transaction open that satisfy `which`, in the caller's array.
template <typename F>
std::span<Connection* const> gather(std::span<Connection*> room, F&& which) {
  std::size_t count = 0;
  for_each_open([&](Connection& connection) {
    if (count < room.size() && which(connection)) room[count++] = &connection;
  });
  return room.subspan(0, count);
}

std::size_t count_open() {
  std::size_t count = 0;
  for_each_open([&](const Connection&) { ++count; });
  return count;
}

/// Room for all connections: made while allocating is allowed, used in callbacks.
struct Room {
  Connection** list;
  std::size_t size;
};
Room room{};

std::span<Connection*> callback_room() {
  return {room.list, room.size};
}

/// Sends the end of a read-only transaction; its answer is read at the next use.
void end_reads() {
  for_each_open([](Connection& connection) {
    if (connection.depth == 0 || connection.wrote_level > 0) return;
    queue(connection, commit_statement, Step::control, {});
    send(connection);
    transaction_over(connection);
  });
}

void require_sound(const Connection& connection) {
  if (connection.doomed || connection.lost)
    ereport(ERROR, errcode(ERRCODE_CONNECTION_FAILURE),
            errmsg("the connection to shard %d (server \"%s\") was lost in the transaction",
                   connection.shard_id, server_name(connection.server)),
            errdetail("What the transaction wrote there is rolled back."),
            errhint("Run the transaction again."));
}

/// Commits what the shard decides alone, before the local commit: raises its error, or 40003 when
/// it did not answer.
void commit_one(Connection& connection) {
  ORDER_PROC_FAILPOINT("one_before_commit");
  queue(connection, commit_statement, Step::call, {});
  send(connection);
  ORDER_PROC_FAILPOINT("one_commit_sent");
  Connection* const one[] = {&connection};
  const Deadline deadline = after_milliseconds(commit_timeout);
  const PGresult* const result = next_result(connection, Interrupts::hold, deadline);
  const bool rolled_back =
      result != nullptr &&
      std::string_view(PQcmdStatus(const_cast<PGresult*>(result))) == "ROLLBACK";
  // A session that ended with the error may have committed before.
  const bool answered =
      result != nullptr || (error_code(connection) != 0 && !was_fatal(connection));
  const bool ended = finish_all(one, Interrupts::hold, deadline);
  if (!answered || !ended) {
    const bool lost = connection.lost || connection.error != nullptr;
    close_connection(connection);
    raise_commit_unknown(connection, lost ? "The connection was lost while it committed."
                                          : "It did not answer within order_proc.commit_timeout.");
  }
  transaction_over(connection);
  raise_error(connection, connection.lost);
  if (rolled_back)
    ereport(ERROR, errcode(ERRCODE_TRANSACTION_ROLLBACK),
            errmsg("shard %d (server \"%s\") rolled the transaction back", connection.shard_id,
                   server_name(connection.server)),
            errhint("Run the transaction again."));
}

/// Before the local commit.
void pre_commit() {
  make_room();
  const auto written =
      gather(callback_room(), [](const Connection& c) { return c.depth > 0 && c.wrote_level > 0; });
  // A session that has ended before it is asked to commit leaves nothing unknown.
  if (!written.empty() && !written[0]->prepared_here) note_hung_up(written);
  for (const Connection* connection = first_connection(); connection != nullptr;
       connection = connection->next)
    if (connection->depth > 0 || connection->doomed) require_sound(*connection);
  // This may raise, and behind a decision nothing may.
  end_reads();
  if (written.empty()) return;
  const bool here = TransactionIdIsValid(GetTopTransactionIdIfAny()) || IsolationIsSerializable();
  if (written.size() == 1 && !here) return commit_one(*written[0]);
  if (commit_protocol.prepare == nullptr)
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("a transaction that wrote on several shards cannot be committed"),
            errhint("Write on one shard a transaction."));
  commit_protocol.prepare(written, here);
}

bool busy(const Connection& connection) {
  return connection.in_flight || connection.step_count > 0;
}

/// Forgets at the end of the local transaction what a broken connection had begun.
void forget_broken() {
  for (Connection* connection = first_connection(); connection != nullptr;
       connection = connection->next)
    if (connection->link == nullptr || connection->doomed) close_connection(*connection);
}

void let_calls_end() {
  const auto running = gather(callback_room(), [](const Connection& c) { return c.in_flight; });
  if (!running.empty())
    (void)finish_all(running, Interrupts::hold, after_milliseconds(abort_grace));
}

/// Rolls back what is open; a connection that is busy or does not answer is closed, and the shard
/// notices within its client_connection_check_interval.
void abort_all() {
  let_calls_end();
  const auto open = gather(callback_room(), [](Connection& connection) {
    if (connection.depth == 0 && !connection.left_open && !busy(connection)) return false;
    if (!busy(connection) && !connection.lost && !connection.doomed) return true;
    close_connection(connection);
    return false;
  });
  for (Connection* const connection : open) {
    send_quietly(*connection, "ROLLBACK");
    connection->settings.known = false;
    transaction_over(*connection);
  }
  (void)finish_all(open, Interrupts::hold, after_milliseconds(abort_timeout));
  for (Connection* const connection : open)
    if (connection->in_flight || connection->error != nullptr || connection->lost)
      close_connection(*connection);
}

/// The transaction on the shard is lost, and with it what outer levels did there.
void doom(Connection& connection, int level) {
  close_connection(connection);
  connection.doomed = true;
  connection.depth = level - 1;
}

/// Undoes on the shard what a level did.
void roll_back_level(Connection& connection, int level) {
  if (connection.depth < level && !connection.left_open && !busy(connection)) return;
  const bool whole = connection.depth == 0 || connection.begin_level >= level;
  const Deadline deadline = after_milliseconds(subtransaction_abort_timeout);
  if (connection.lost || busy(connection)) {
    if (whole) return close_connection(connection);
    if (connection.lost || !connection.in_flight || !cancel_and_finish(connection, deadline))
      return doom(connection, level);
  }
  std::array<char, 64> text{"ROLLBACK"};
  if (!whole) snprintf(text.data(), text.size(), "ROLLBACK TO SAVEPOINT s%d", level);
  send_quietly(connection, text.data());
  Connection* const one[] = {&connection};
  const bool done = finish_all(one, Interrupts::hold, deadline) && connection.error == nullptr &&
                    !connection.lost;
  connection.settings.known = false;
  if (whole) {
    transaction_over(connection);
    if (!done) close_connection(connection);
    return;
  }
  if (!done) return doom(connection, level);
  connection.depth = level - 1;
  // The savepoint itself is still there.
  connection.release_level = level;
  if (connection.wrote_level >= level) connection.wrote_level = 0;
}

void commit_level(Connection& connection, int level) {
  if (connection.begin_level == level) connection.begin_level = level - 1;
  if (connection.wrote_level == level) connection.wrote_level = level - 1;
  if (connection.depth < level) return;
  connection.depth = level - 1;
  connection.release_level = level;
}

void end_of_transaction(XactEvent event, void*) {
  if (first_connection() == nullptr) return;
  switch (event) {
    case XACT_EVENT_PRE_COMMIT:
      return pre_commit();
    case XACT_EVENT_PRE_PREPARE:
      if (in_transaction())
        ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                errmsg("cannot PREPARE a transaction that used shards"),
                errhint("COMMIT it: it is atomic over the shards."));
      return;
    case XACT_EVENT_COMMIT: {
      if (was_committed_with_call) {
        was_committed_with_call = false;
        pg::resume_interrupts();
      }
      const auto prepared =
          gather(callback_room(), [](const Connection& c) { return c.prepared_here; });
      if (!prepared.empty()) commit_protocol.committed(prepared);
      return;
    }
    case XACT_EVENT_ABORT: {
      if (was_committed_with_call) {
        // The error has let go of the interrupts.
        was_committed_with_call = false;
        ereport(WARNING, errmsg("the call was committed on its shard before the error"));
      }
      const auto prepared =
          gather(callback_room(), [](const Connection& c) { return c.prepared_here; });
      if (!prepared.empty()) commit_protocol.aborted(prepared);
      abort_all();
      forget_broken();
      watch_idle_connections();
      return;
    }
    default:
      return;
  }
}

void end_of_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
  if (event != SUBXACT_EVENT_PRE_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB) return;
  const int level = GetCurrentTransactionNestLevel();
  if (event == SUBXACT_EVENT_ABORT_SUB) let_calls_end();
  for_each_open([&](Connection& connection) {
    if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
      commit_level(connection, level);
    else
      roll_back_level(connection, level);
  });
}

}  // namespace

void raise_commit_unknown(const Connection& connection, const char* detail) {
  ereport(ERROR, errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
          errmsg("shard %d (server \"%s\") did not confirm the commit", connection.shard_id,
                 server_name(connection.server)),
          errdetail_internal("%s", detail),
          errhint("SELECT order_proc.outcome(customer_id, idempotency_key) tells whether the order "
                  "was made; a retry with the same key is safe."));
}

void make_room() {
  const std::size_t needed = count_open() + 8;
  if (room.size >= needed) return;
  auto** const list = static_cast<Connection**>(
      MemoryContextAlloc(TopMemoryContext, sizeof(Connection*) * needed * 2));
  if (room.list != nullptr) pfree(room.list);
  room = {list, needed * 2};
}

bool is_whole_transaction(FunctionCallInfo call) {
  return pg::is_whole_transaction(call) && !in_transaction() &&
         !TransactionIdIsValid(GetTopTransactionIdIfAny()) && !IsolationIsSerializable();
}

namespace commit_with_call {

bool possible(FunctionCallInfo call, const Connection& connection) {
  // A pooler's server session cannot be cancelled.
  return may_commit_with_call && !connection.pooled && is_whole_transaction(call);
}

void queue(Connection& connection) {
  remote::queue(connection, commit_statement, Step::control, {});
}

bool ended(Connection& connection) {
  (void)next_result(connection, Interrupts::leave);
  const bool interrupted = connection.in_flight;
  const bool heard =
      !interrupted || cancel_and_finish(connection, after_milliseconds(abort_timeout));
  if (!heard || session_gone(connection)) {
    close_connection(connection);
    raise_commit_unknown(connection, heard ? "The connection was lost before it answered."
                                           : "The call was canceled, and it did not answer.");
  }
  if (connection.error != nullptr) {
    if (interrupted) CHECK_FOR_INTERRUPTS();
    return false;
  }
  transaction_over(connection);
  was_committed_with_call = true;
  pg::hold_interrupts();
  ORDER_PROC_FAILPOINT("one_committed_with_call");
  return true;
}

}  // namespace commit_with_call

void send_quietly(Connection& connection, const char* command) {
  connection.steps[0] = Step::control;
  connection.step_count = 1;
  connection.step_at = 0;
  PQclear(connection.error);
  connection.error = nullptr;
  connection.in_flight = true;
  if (PQsendQueryParams(connection.link, command, 0, nullptr, nullptr, nullptr, nullptr, 0) != 1 ||
      PQpipelineSync(connection.link) != 1)
    connection.lost = true;
}

bool undo_call(Connection& connection, int depth) {
  if (connection.lost || connection.doomed || busy(connection) ||
      (depth > 0 && depth >= GetCurrentTransactionNestLevel()))
    return false;
  roll_back_level(connection, depth + 1);
  return !connection.doomed;
}

void end_reads(std::span<Connection* const> connections) {
  for (Connection* const connection : connections) {
    if (connection->depth == 0 || connection->wrote_level > 0) continue;
    queue(*connection, commit_statement, Step::control, {});
    send(*connection);
    (void)next_result(*connection);
    raise_error(*connection);
    transaction_over(*connection);
  }
}

void transaction_over(Connection& connection) {
  connection.depth = connection.begin_level = 0;
  connection.release_level = connection.wrote_level = 0;
  connection.prepared_here = connection.left_open = false;
  connection.cut = 0;
}

void set_commit_protocol(const CommitProtocol& protocol) {
  commit_protocol = protocol;
}

void define_transaction_settings() {
  DefineCustomIntVariable("order_proc.commit_timeout",
                          "How long a commit waits for a shard that does not answer.", nullptr,
                          &commit_timeout, 2000, 1, 600000, PGC_USERSET, GUC_UNIT_MS, nullptr,
                          nullptr, nullptr);
  DefineCustomBoolVariable(
      "order_proc.commit_with_call",
      "Lets a write that is all of its transaction commit on its shard in the same message.",
      "off needs one round trip more, but when a shard is lost during the call, nothing is "
      "committed.",
      &may_commit_with_call, true, PGC_USERSET, 0, nullptr, nullptr, nullptr);
  RegisterXactCallback(end_of_transaction, nullptr);
  RegisterSubXactCallback(end_of_subtransaction, nullptr);
}

}  // namespace order_proc::remote
