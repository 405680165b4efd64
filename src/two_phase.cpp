// A transaction that wrote on several shards, or on one and here, commits in two phases: all shards
// prepare, then the local commit decides, since a row of the commit log is part of it; then the
// shards commit. Whatever dies in between, recover() settles by that row: there, or never committed
// (presumed abort).
//
// Before the decision everything may raise; behind it nothing does, and no wait is longer than
// order_proc.commit_timeout.
#include "two_phase.hpp"

#include "cluster.hpp"
#include "core/gid.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/srf.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"

extern "C" {
#include "port.h"
#include "storage/procarray.h"
}

namespace order_proc {

namespace {

/// How long the shards may take to prepare.
constexpr int prepare_timeout = 10000;
constexpr int abort_timeout = 1000;

pg::Statement log_decision{"INSERT INTO order_store.commit_log (gid, shard_ids) VALUES ($1, $2)",
                           TEXTOID, INT4ARRAYOID};
pg::Statement forget_decisions{
    "DELETE FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.=) ANY ($1)",
    TEXTARRAYOID};
pg::Statement forget_decision{
    "DELETE FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.=) $1", TEXTOID};
pg::Statement all_decisions{"SELECT l.gid FROM order_store.commit_log AS l"};
pg::Statement find_decision{
    "SELECT 1 FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.=) $1", TEXTOID};

core::Gid deciding{};
/// The last decision of this session that all shards have carried out: its row goes with the next.
core::GidText carried_out{};

Datum text_datum(std::string_view value) {
  return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

std::string_view base_of(const core::GidText& gid) {
  return {gid.data(), core::gid_base_size};
}

/// The row whose commit is the decision.
void write_decision(std::span<remote::Connection* const> written) {
  const Store& store = open_store_for_anyone();
  auto* const shards = static_cast<Datum*>(palloc(sizeof(Datum) * written.size()));
  for (std::size_t i = 0; i < written.size(); ++i) shards[i] = Int32GetDatum(written[i]->shard_id);
  const Datum shard_ids = PointerGetDatum(construct_array(
      shards, static_cast<int>(written.size()), INT4OID, sizeof(int32), true, TYPALIGN_INT));
  PushActiveSnapshot(GetTransactionSnapshot());
  pg::with_spi([&] {
    pg::as_user(store.owner, [&] {
      log_decision.run(0,
                       {pg::Value(text_datum(base_of(pg::core_call(core::format_gid, deciding)))),
                        pg::Value(shard_ids)});
      if (carried_out[0] != '\0')
        forget_decision.run(0, {pg::Value(text_datum(base_of(carried_out)))});
    });
  });
  PopActiveSnapshot();
}

void require_random(void* target, std::size_t size) {
  if (!pg_strong_random(target, size))
    ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number"));
}

void require_prepared(remote::Connection& connection, const char* tag) {
  remote::raise_error(connection);
  if (std::string_view(tag) == "PREPARE TRANSACTION") return;
  ereport(ERROR, errcode(ERRCODE_TRANSACTION_ROLLBACK),
          errmsg("shard %d (server \"%s\") rolled the transaction back", connection.shard_id,
                 remote::server_name(connection.server)),
          errhint("Run the transaction again."));
}

void prepare(std::span<remote::Connection* const> written) {
  deciding = {static_cast<uint64>(written[0]->coordinator_id),
              U64FromFullTransactionId(GetTopFullTransactionId()), 0, 0};
  require_random(&deciding.nonce, sizeof deciding.nonce);
  write_decision(written);
  // The decision must be on disk before a shard commits, whatever synchronous_commit says.
  ForceSyncCommit();
  for (remote::Connection* const connection : written) {
    deciding.shard = static_cast<uint32>(connection->shard_id);
    connection->gid = pg::core_call(core::format_gid, deciding);
    const char* const command = psprintf("PREPARE TRANSACTION '%s'", connection->gid.data());
    connection->prepared_here = true;
    remote::queue_text(*connection, command, remote::Step::call, {});
    remote::send(*connection);
  }
  const remote::Deadline deadline = remote::after_milliseconds(prepare_timeout);
  for (remote::Connection* const connection : written) {
    const PGresult* const result =
        remote::next_result(*connection, remote::Interrupts::serve, deadline);
    const char* const tag =
        result == nullptr ? "" : pstrdup(PQcmdStatus(const_cast<PGresult*>(result)));
    (void)remote::next_result(*connection, remote::Interrupts::serve, deadline);
    if (connection->in_flight)
      ereport(
          ERROR, errcode(ERRCODE_CONNECTION_FAILURE),
          errmsg("shard %d (server \"%s\") did not prepare the commit within %d ms",
                 connection->shard_id, remote::server_name(connection->server), prepare_timeout),
          errhint("Nothing is committed; run the transaction again."));
    require_prepared(*connection, tag);
  }
}

/// Ends the prepared transactions all at once; true when each shard said so.
bool end_prepared(std::span<remote::Connection* const> prepared, const char* command,
                  int milliseconds) {
  std::array<char, 128> text;
  const remote::Deadline deadline = remote::after_milliseconds(milliseconds);
  (void)remote::finish_all(prepared, remote::Interrupts::hold, deadline);
  for (remote::Connection* const connection : prepared) {
    if (connection->in_flight || connection->lost) continue;
    snprintf(text.data(), text.size(), "%s '%s'", command, connection->gid.data());
    remote::send_quietly(*connection, text.data());
  }
  bool all = remote::finish_all(prepared, remote::Interrupts::hold, deadline);
  for (remote::Connection* const connection : prepared) {
    const bool done = !connection->in_flight && !connection->lost && connection->error == nullptr;
    remote::transaction_over(*connection);
    if (!done) remote::close_connection(*connection);
    all &= done;
  }
  return all;
}

void committed(std::span<remote::Connection* const> prepared) {
  carried_out = {};
  if (!end_prepared(prepared, "COMMIT PREPARED", remote::commit_timeout)) {
    ereport(WARNING, errmsg("the transaction is committed, but a shard has yet to carry it out"),
            errhint("SELECT * FROM order_proc.recover();"));
    return;
  }
  carried_out = pg::core_call(core::format_gid, deciding);
}

void aborted(std::span<remote::Connection* const> prepared) {
  (void)end_prepared(prepared, "ROLLBACK PREPARED", abort_timeout);
}

}  // namespace

void watch_commits() {
  remote::set_commit_protocol({prepare, committed, aborted});
}

namespace {

const PGresult* ask(remote::Connection& connection, const char* query,
                    std::span<const char* const> values) {
  remote::queue_text(connection, query, remote::Step::call, {{}, values, {}, {}});
  remote::send(connection);
  return remote::next_result(connection);
}

/// Prepared transactions of this coordinator on the shard.
struct Found {
  const char** gids;
  int count;
};

Found find_prepared(remote::Connection& connection, int64 coordinator_id) {
  const std::array<const char*, 1> values{
      psprintf("opc1\\_%016llx\\_%%", static_cast<unsigned long long>(coordinator_id))};
  const PGresult* const result =
      ask(connection,
          "SELECT p.gid FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database "
          "OPERATOR(pg_catalog.=) pg_catalog.current_database() AND p.gid "
          "OPERATOR(pg_catalog.~~) $1",
          values);
  Found found{nullptr, 0};
  if (result != nullptr) {
    found.count = PQntuples(result);
    found.gids =
        static_cast<const char**>(palloc(sizeof(char*) * static_cast<Size>(found.count + 1)));
    for (int i = 0; i < found.count; ++i) found.gids[i] = pstrdup(PQgetvalue(result, i, 0));
    (void)remote::next_result(connection);
  }
  remote::raise_error(connection);
  return found;
}

/// Whether the transaction that prepared it may still decide.
bool undecided(const core::Gid& gid) {
  const FullTransactionId transaction = FullTransactionIdFromU64(gid.transaction);
  if (!FullTransactionIdPrecedes(transaction, ReadNextFullTransactionId())) return true;
  return TransactionIdIsInProgress(XidFromFullTransactionId(transaction));
}

bool was_decided(const Store& store, std::string_view base) {
  return pg::with_spi([&] {
    return pg::as_user(store.owner,
                       [&] { return find_decision.run(0, {pg::Value(text_datum(base))}) > 0; });
  });
}

/// Ends one of them; false when somebody else is at it.
bool settle(remote::Connection& connection, const char* gid, bool commit) {
  const PGresult* const result =
      ask(connection,
          psprintf("%s PREPARED %s", commit ? "COMMIT" : "ROLLBACK", quote_literal_cstr(gid)), {});
  if (result != nullptr) {
    (void)remote::next_result(connection);
    remote::raise_error(connection);
    return true;
  }
  const int code = remote::error_code(connection);
  if (code == ERRCODE_UNDEFINED_OBJECT || code == ERRCODE_OBJECT_IN_USE ||
      code == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
    return false;
  remote::raise_error(connection);
  return false;
}

void recover_shard(const Store& store, const Cluster& cluster, remote::Connection& connection,
                   const pg::ResultSet& results, List** pending) {
  const Found found = find_prepared(connection, cluster.coordinator_id);
  for (int i = 0; i < found.count; ++i) {
    CHECK_FOR_INTERRUPTS();
    const char* const text = found.gids[i];
    const auto gid = pg::core_call(core::parse_gid, std::string_view(text));
    const char* const base = pnstrdup(text, core::gid_base_size);
    *pending = lappend(*pending, makeString(const_cast<char*>(base)));
    // The look for the row comes after the look for the transaction: what is over has left its row.
    if (!gid || undecided(*gid)) continue;
    const bool commit = was_decided(store, base);
    if (!settle(connection, text, commit)) continue;
    results.add({pg::Value(CStringGetTextDatum(text)),
                 pg::Value(Int32GetDatum(connection.shard_id)),
                 pg::Value(CStringGetTextDatum(commit ? "committed" : "rolled back"))});
  }
}

/// Decisions of before the shards were asked, of which no shard has anything prepared any more.
void forget_carried_out(const Store& store, List* decisions, const List* pending) {
  auto* const values =
      static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(list_length(decisions) + 1)));
  int count = 0;
  ListCell* cell;
  foreach (cell, decisions)
    if (!list_member(pending, lfirst(cell)))
      values[count++] = CStringGetTextDatum(strVal(lfirst(cell)));
  if (count == 0) return;
  const Datum gids =
      PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
  pg::with_spi(
      [&] { pg::as_user(store.owner, [&] { forget_decisions.run(0, {pg::Value(gids)}); }); });
}

List* list_decisions(const Store& store) {
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&] {
    const uint64 rows = pg::as_user(store.owner, [&] { return all_decisions.run(0, {}); });
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    List* decisions = NIL;
    for (uint64 row = 0; row < rows; ++row)
      decisions = lappend(decisions, makeString(TextDatumGetCString(pg::result(row, 0).datum)));
    MemoryContextSwitchTo(saved);
    return decisions;
  });
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_recover);
Datum order_proc_recover(PG_FUNCTION_ARGS) {
  PreventCommandIfReadOnly("recover");
  PreventCommandIfParallelMode("recover");
  if (IsolationUsesXactSnapshot())
    ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
            errmsg("recover() needs a READ COMMITTED transaction"),
            errhint("Decisions may have been made after the snapshot was taken."));
  const pg::ResultSet results(fcinfo);
  const Store store = open_store();
  require_store_owner(store, "recover transactions");
  const Cluster* const cluster = routed({});
  if (cluster == nullptr) return results.done();
  List* const decisions = list_decisions(store);
  List* pending = NIL;
  for (remote::Connection* const connection : connect_all(*cluster, false)) {
    if (connection->depth > 0)
      ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
              errmsg("recover() cannot run in a transaction that used shards"),
              errhint("COMMIT; SELECT * FROM order_proc.recover();"));
    recover_shard(store, *cluster, *connection, results, &pending);
  }
  forget_carried_out(store, decisions, pending);
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
