// One query or command on all shards at once. Rows are read from whichever shard has some and go
// straight to the result (a tuplestore: work_mem, then disk); each connection holds one row.
#include "fan_out.hpp"

#include "consistent_cut.hpp"
#include "harmless_query.hpp"
#include "left_out.hpp"
#include "pg/error.hpp"
#include "pg/user_sql.hpp"
#include "pg/srf.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"
#include "remote/statements.hpp"
#include "remote/transaction.hpp"
#include "routing.hpp"

namespace order_proc {

namespace {

[[noreturn]] void wrong_columns(int wanted, int given) {
  ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
          errmsg("the query returns %d columns, the column definition list has %d", given, wanted),
          errhint("SELECT ... FROM order_proc.fan_out('...') AS t(name type, ...);"));
}

[[noreturn]] void wrong_type(const FormData_pg_attribute& column, Oid given) {
  ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
          errmsg("column \"%s\" has type %s in the query, %s in the column definition list",
                 NameStr(column.attname), format_type_be(given), format_type_be(column.atttypid)),
          errhint("Cast the column in the query, or name its type in the list."));
}

/// Reads texts of the shards into the types of the column definition list.
class RowReader {
 public:
  explicit RowReader(TupleDesc descriptor)
      : descriptor_(descriptor), input_(TupleDescGetAttInMetadata(descriptor)) {
    values_ = static_cast<char**>(palloc(sizeof(char*) * static_cast<Size>(descriptor->natts + 1)));
  }

  /// Types of PostgreSQL's own have the same oids everywhere; others are read from their texts.
  void check(const PGresult* result) const {
    if (PQnfields(result) != descriptor_->natts)
      wrong_columns(descriptor_->natts, PQnfields(result));
    for (int i = 0; i < descriptor_->natts; ++i) {
      const FormData_pg_attribute& column = *TupleDescAttr(descriptor_, i);
      const Oid given = PQftype(result, i);
      if (given != column.atttypid && given < FirstNormalObjectId &&
          column.atttypid < FirstNormalObjectId && given != UNKNOWNOID)
        wrong_type(column, given);
    }
  }

  HeapTuple read(const PGresult* result, int row) const {
    for (int i = 0; i < descriptor_->natts; ++i)
      values_[i] = PQgetisnull(result, row, i) == 1 ? nullptr : PQgetvalue(result, row, i);
    return BuildTupleFromCStrings(input_, values_);
  }

 private:
  TupleDesc descriptor_;
  AttInMetadata* input_;
  char** values_;
};

OnFailure parse_on_failure(std::string_view name) {
  if (name == "error") return OnFailure::error;
  if (name == "warn") return OnFailure::warn;
  pg::unknown_option("on_failure", name, "Use 'error' or 'warn'.");
}

remote::Statement begin_read{"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"};
remote::Statement end_read{"ROLLBACK"};
remote::Statement begin_part{"SAVEPOINT order_proc_read"};
remote::Statement read_only{"SET LOCAL transaction_read_only = on"};
remote::Statement undo_part{"ROLLBACK TO SAVEPOINT order_proc_read"};
remote::Statement end_part{"RELEASE SAVEPOINT order_proc_read"};

/// What is asked of all shards.
struct Question {
  const char* query;
  remote::Statement* kept;  ///< the same, when it is one to prepare
  std::span<const char* const> arguments;
  OnFailure on_failure;
  bool of_its_own;  ///< the transaction had used no shard before
  bool harmless;
};

/// Queues the query so that it cannot write, whatever it calls: in a transaction of its own, or in
/// a savepoint that is undone, or in the snapshot of a cut. One that is harmless needs no fence
/// outside of transactions.
void start_query(remote::Connection& connection, const Question& question) {
  using remote::Step;
  const remote::Parameters parameters{{}, question.arguments, {}, {}};
  const bool snapshot = connection.left_open;
  remote::begin(connection, remote::Use::read);
  if (snapshot) {
    remote::queue_text(connection, question.query, Step::call, parameters);
    remote::end_snapshot(connection);
    return remote::send(connection, true);
  }
  const bool part = connection.depth > 0;
  const bool fenced = part || !question.harmless;
  connection.alone = fenced && !part;
  // Settings are kept for the next query: the end of this one must not undo them.
  if (!part) remote::queue_sync(connection);
  if (fenced) remote::queue(connection, part ? begin_part : begin_read, Step::control, {});
  if (part) remote::queue(connection, read_only, Step::control, {});
  // In a transaction it could not be prepared anew, see columns_changed().
  if (part || question.kept == nullptr)
    remote::queue_text(connection, question.query, Step::call, parameters);
  else
    remote::queue(connection, *question.kept, Step::call, parameters);
  if (fenced) remote::queue(connection, part ? undo_part : end_read, Step::control, {});
  if (part) remote::queue(connection, end_part, Step::control, {});
  remote::send(connection, true);
}

/// A shard that was asked.
struct Asked {
  remote::Connection* connection;
  bool may_be_asked_again;  ///< it had nothing of the transaction, and no row has come
  bool may_be_left_out;     ///< the same, but for a cut that was made for this question
  bool silent;              ///< nothing has come since the last look for shards that hang
};

void ask(Asked& asked, const Question& question) {
  // Another session would not have the snapshot of a cut.
  asked.may_be_asked_again = asked.connection->depth == 0 && !asked.connection->left_open;
  start_query(*asked.connection, question);
}

/// The connection was found broken: it is opened and used once more. False when the shard is left
/// out.
bool ask_again(Asked& asked, const Question& question) {
  remote::Connection& connection = *asked.connection;
  if (!reopen(connection, question.on_failure)) return false;
  ask(asked, question);
  asked.may_be_asked_again = false;
  return true;
}

/// Whether it failed since a kept statement has other columns than it had, and was asked again
/// with one that is prepared anew.
bool columns_changed(Asked& asked, const Question& question) {
  if (question.kept == nullptr || !asked.may_be_asked_again ||
      remote::error_code(*asked.connection) != ERRCODE_FEATURE_NOT_SUPPORTED ||
      !remote::undo_call(*asked.connection, 0))
    return false;
  remote::renew(*question.kept);
  ask(asked, question);
  asked.may_be_asked_again = false;
  return true;
}

/// That Bind has values for parameters that the query does not have is the protocol's for the
/// shard.
void raise_failure(remote::Connection& connection, const Question& question) {
  if (remote::error_code(connection) == ERRCODE_PROTOCOL_VIOLATION && !question.arguments.empty())
    pg::too_many_values(static_cast<int>(question.arguments.size()));
  remote::raise_error(connection);
}

/// Takes what has come on the connection; true at its end.
bool take_rows(Asked& asked, const Question& question, const RowReader& reader,
               MemoryContext row_memory, Tuplestorestate* store) {
  remote::Connection& connection = *asked.connection;
  for (;;) {
    const auto result = remote::result_if_any(connection);
    if (!result) return false;
    if (*result == nullptr) {
      if (asked.may_be_asked_again && remote::session_gone(connection) &&
          ask_again(asked, question))
        return false;
      if (columns_changed(asked, question)) return false;
      if (connection.link == nullptr) return true;
      if (asked.may_be_left_out && remote::session_gone(connection))
        leave_out_lost(connection);
      else
        raise_failure(connection, question);
      return true;
    }
    asked.may_be_asked_again = asked.may_be_left_out = asked.silent = false;
    reader.check(*result);
    const MemoryContext saved = MemoryContextSwitchTo(row_memory);
    for (int row = 0; row < PQntuples(*result); ++row)
      tuplestore_puttuple(store, reader.read(*result, row));
    MemoryContextSwitchTo(saved);
    MemoryContextReset(row_memory);
    CHECK_FOR_INTERRUPTS();
  }
}

/// A query may take as long as it takes. But a shard whose server does not answer over a second
/// connection either hangs.
void look_for_hanging(std::span<Asked> all) {
  const std::span<Asked*> silent{static_cast<Asked**>(palloc(sizeof(Asked*) * (all.size() + 1))),
                                 all.size()};
  auto** const connections =
      static_cast<remote::Connection**>(palloc(sizeof(remote::Connection*) * (all.size() + 1)));
  auto* const lives = static_cast<bool*>(palloc0(all.size() + 1));
  std::size_t count = 0;
  for (Asked& asked : all) {
    if (asked.connection->in_flight && asked.silent && !asked.connection->pooled) {
      silent[count] = &asked;
      connections[count++] = asked.connection;
    }
    asked.silent = true;
  }
  if (count == 0) return;
  remote::find_living({connections, count}, {lives, count});
  for (std::size_t i = 0; i < count; ++i) {
    // It may have answered meanwhile.
    if (lives[i] || remote::wait_for_any({&connections[i], 1}, remote::Interrupts::serve,
                                         GetCurrentTimestamp()))
      continue;
    const char* const detail = "Nor did its server over a second connection.";
    if (!silent[i]->may_be_left_out) raise_silent(*connections[i], remote::connect_timeout, detail);
    leave_out_silent(*connections[i], remote::connect_timeout, detail);
  }
}

/// Asks all of them and gathers their rows.
void gather(std::span<remote::Connection* const> connections, const Question& question,
            const pg::ResultSet& results) {
  const RowReader reader(results.descriptor());
  const std::span<Asked> all{static_cast<Asked*>(palloc(sizeof(Asked) * (connections.size() + 1))),
                             connections.size()};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool untouched = question.of_its_own || connections[i]->depth == 0;
    all[i] = {connections[i], false, question.on_failure == OnFailure::warn && untouched, true};
    ask(all[i], question);
  }
  const bool bounded = question.on_failure == OnFailure::warn;
  remote::Deadline look = remote::after_milliseconds(remote::connect_timeout);
  const MemoryContext row_memory =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc row", ALLOCSET_DEFAULT_SIZES);
  for (;;) {
    bool all_done = true;
    for (Asked& asked : all)
      if (asked.connection->in_flight)
        all_done &= take_rows(asked, question, reader, row_memory, results.store());
    if (all_done) break;
    (void)remote::wait_for_any(connections, remote::Interrupts::serve,
                               bounded ? look : remote::never);
    if (!bounded || !remote::passed(look)) continue;
    const MemoryContext saved = MemoryContextSwitchTo(row_memory);
    look_for_hanging(all);
    MemoryContextSwitchTo(saved);
    MemoryContextReset(row_memory);
    look = remote::after_milliseconds(remote::connect_timeout);
  }
  MemoryContextDelete(row_memory);
}

/// Without shards: the same query here, with the same limits.
void run_here(const char* query, std::span<const pg::Value> args, const pg::ResultSet& results) {
  pg::read_only_query(query, args, results.descriptor(), results.receiver());
}

struct TextArguments {
  std::span<const pg::Value> values;
  std::span<const char* const> texts;
};

TextArguments text_arguments(const pg::Args& args, int i) {
  if (args.null(i)) return {};
  Datum* elements;
  bool* nulls;
  int count;
  ArrayType* const array = DatumGetArrayTypeP(args.datum(i, "args"));
  deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
  if (count > PQ_QUERY_PARAM_MAX_LIMIT)
    ereport(ERROR, errcode(ERRCODE_TOO_MANY_ARGUMENTS),
            errmsg("args has %d values, %d are the most", count, PQ_QUERY_PARAM_MAX_LIMIT),
            errhint("Give an array as one value: args => ARRAY['{1,2,3}'] for = ANY ($1)."));
  auto* const values =
      static_cast<pg::Value*>(palloc(sizeof(pg::Value) * static_cast<Size>(count + 1)));
  auto** const texts =
      static_cast<const char**>(palloc(sizeof(char*) * static_cast<Size>(count + 1)));
  for (int n = 0; n < count; ++n) {
    values[n] = {elements[n], nulls[n]};
    texts[n] = nulls[n] ? nullptr : TextDatumGetCString(elements[n]);
  }
  return {{values, static_cast<std::size_t>(count)}, {texts, static_cast<std::size_t>(count)}};
}

}  // namespace

namespace {

void order(remote::Connection& connection, const char* command) {
  remote::begin(connection, remote::Use::write);
  remote::queue_text(connection, command, remote::Step::call, {});
  // A function that it calls may set what it likes.
  remote::settings_altered(connection);
  remote::send(connection, true);
}

/// The command's tag. Once more when the connection was found broken at its first use in the
/// transaction: what it did in a session that is gone was never committed.
const char* carried_out_as(Asked& asked, const char* command) {
  const char* tag = "";
  for (;;) {
    while (PGresult* const result = remote::next_result(*asked.connection))
      if (const char* const its = PQcmdStatus(result); *its != '\0') tag = pstrdup(its);
    if (!asked.may_be_asked_again || !remote::session_gone(*asked.connection)) return tag;
    asked.may_be_asked_again = false;
    (void)remote::reopen(*asked.connection);
    order(*asked.connection, command);
  }
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_fan_out);
Datum order_proc_fan_out(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const char* const query = text_to_cstring(args.get_text(0, "query").value);
  const TextArguments arguments = text_arguments(args, 1);
  const OnFailure on_failure = parse_on_failure(args.get_text(2, "on_failure").view());
  Node* const parsed = pg::require_query(query);
  (void)pg::expected_columns(fcinfo, "fan_out");
  const pg::ResultSet results(fcinfo);
  const Cluster* const cluster = routed_to_all();
  if (cluster == nullptr) {
    run_here(query, arguments.values, results);
    return results.done();
  }
  const std::span<remote::Connection*> connected =
      on_failure == OnFailure::warn ? connect_those_up(*cluster) : connect_all(*cluster, true);
  const bool of_its_own = std::all_of(connected.begin(), connected.end(),
                                      [](const remote::Connection* c) { return c->depth == 0; });
  const std::span<remote::Connection*> connections = take_cut(connected, on_failure);
  gather(connections,
         {query, remote::kept_statement(query), arguments.texts, on_failure, of_its_own,
          is_harmless(parsed)},
         results);
  return results.done();
}

PG_FUNCTION_INFO_V1(order_proc_fan_out_exec);
Datum order_proc_fan_out_exec(PG_FUNCTION_ARGS) {
  const char* const command = text_to_cstring(pg::Args(fcinfo).get_text(0, "command").value);
  PreventCommandIfReadOnly("fan_out_exec");
  PreventCommandIfParallelMode("fan_out_exec");
  pg::require_command(command);
  const pg::ResultSet results(fcinfo);
  const Cluster* const cluster = routed_to_all();
  if (cluster == nullptr) {
    const char* const tag = pg::run_command(command);
    results.add({pg::Value(Int32GetDatum(0)), pg::Value(CStringGetTextDatum(tag))});
    return results.done();
  }
  const std::span<remote::Connection*> connections = connect_all(*cluster, false);
  const std::span<Asked> all{static_cast<Asked*>(palloc(sizeof(Asked) * (connections.size() + 1))),
                             connections.size()};
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = {connections[i], connections[i]->depth == 0, false, false};
    order(*connections[i], command);
  }
  for (Asked& asked : all) {
    remote::Connection* const connection = asked.connection;
    const char* const tag = carried_out_as(asked, command);
    remote::raise_error(*connection);
    results.add(
        {pg::Value(Int32GetDatum(connection->shard_id)), pg::Value(CStringGetTextDatum(tag))});
  }
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
