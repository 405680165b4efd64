// A transaction that wrote on several shards, or on one and here, commits in two phases: all shards
// prepare, then the local commit decides, since a row of the commit log is part of it; then the
// shards commit. Whatever dies in between, recover() settles by that row: there, or never committed
// (presumed abort).
//
// Before the decision everything may raise; behind it nothing does. On either side of it no wait
// for a shard is longer than order_proc.commit_timeout.
#include "two_phase.hpp"

#include "cluster.hpp"
#include "consistent_cut.hpp"
#include "core/gid.hpp"
#include "failpoints.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/random.hpp"
#include "pg/replication.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "receipts.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"
#include "worker.hpp"

namespace order_proc {

namespace {

/// How long an abort waits for the shards: a cancel is answered soon. What they do not confirm by
/// then is for the resolver.
constexpr int abort_timeout = 150;

pg::Statement log_decision{"INSERT INTO order_store.commit_log (gid, shard_ids) VALUES ($1, $2)",
                           TEXTOID, INT4ARRAYOID};
pg::Statement forget_decision{
    "DELETE FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.=) $1", TEXTOID};

core::Gid deciding{};
bool with_receipts = false;
int64 deciding_key = 0;  ///< of its receipts
/// The last decision of this session that all shards have carried out: its row goes with the next.
core::GidText carried_out{};

Datum text_datum(std::string_view value) {
  return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

/// Until a transaction of version 1.7 has no timeline.
core::GidText deciding_text() {
  return pg::core_call(core::format_gid, deciding, !with_receipts);
}

/// Rows that were forgotten meanwhile by the resolver would fail a transaction with an old
/// snapshot.
bool may_forget() {
  return !IsolationUsesXactSnapshot();
}

/// The row whose commit is the decision.
void write_decision(const Store& store, std::span<remote::Connection* const> written) {
  auto* const shards = static_cast<Datum*>(palloc(sizeof(Datum) * written.size()));
  for (std::size_t i = 0; i < written.size(); ++i) shards[i] = Int32GetDatum(written[i]->shard_id);
  const core::GidText text = deciding_text();
  const Datum shard_ids = PointerGetDatum(construct_array(
      shards, static_cast<int>(written.size()), INT4OID, sizeof(int32), true, TYPALIGN_INT));
  PushActiveSnapshot(GetTransactionSnapshot());
  pg::with_spi([&] {
    pg::as_user(table_owner(store.table(Table::commit_log)), [&] {
      log_decision.run(0,
                       {pg::Value(text_datum(core::gid_base(text.data()))), pg::Value(shard_ids)});
      if (carried_out[0] != '\0' && may_forget())
        forget_decision.run(0, {pg::Value(text_datum(core::gid_base(carried_out.data())))});
    });
  });
  PopActiveSnapshot();
}

void require_prepared(remote::Connection& connection, const char* tag) {
  remote::raise_error(connection);
  if (std::string_view(tag) == "PREPARE TRANSACTION") return;
  ereport(ERROR, errcode(ERRCODE_TRANSACTION_ROLLBACK),
          errmsg("shard %d (server \"%s\") rolled the transaction back", connection.shard_id,
                 remote::server_name(connection.server)),
          errhint("Run the transaction again."));
}

/// Shards that have not answered are not asked to roll back either, which would be one more wait:
/// what they prepare yet is for the resolver.
[[noreturn]] void raise_late(std::span<remote::Connection* const> written,
                             const remote::Connection& late) {
  for (remote::Connection* const connection : written)
    if (connection->in_flight) remote::close_connection(*connection);
  want_worker();
  ereport(ERROR, errcode(ERRCODE_CONNECTION_FAILURE),
          errmsg("shard %d (server \"%s\") did not prepare the commit within %d ms", late.shard_id,
                 remote::server_name(late.server), remote::commit_timeout),
          errhint("Nothing is committed; run the transaction again. What takes a shard long to "
                  "prepare needs a longer order_proc.commit_timeout."));
}

/// The receipt and PREPARE, in one round trip.
void send_prepare(remote::Connection& connection) {
  deciding.shard = static_cast<uint32>(connection.shard_id);
  connection.gid = deciding_text();
  if (with_receipts) queue_receipt(connection, deciding_key, may_forget());
  connection.prepared_here = true;
  remote::queue_text(connection, psprintf("PREPARE TRANSACTION '%s'", connection.gid.data()),
                     remote::Step::call, {});
  remote::send(connection);
}

void prepare(std::span<remote::Connection* const> written) {
  join_commit_barrier();
  const Store& store = open_store_for_anyone();
  const Cluster& cluster = cluster_of(store);
  require_original(cluster);
  with_receipts = store.layout.has_receipts();
  deciding = {static_cast<uint64>(written[0]->coordinator_id), remote::incarnation().timeline,
              U64FromFullTransactionId(GetTopFullTransactionId()), pg::random_bits(), 0};
  if (with_receipts) {
    const core::GidText text = deciding_text();
    deciding_key = receipt_key(cluster, core::gid_base(text.data()));
  }
  // Held until the shards know how it ended: as long the resolver leaves it alone.
  pg::acquire_lock(pg::LockKind::commit, deciding.nonce);
  write_decision(store, written);
  // The decision must be on disk before a shard commits, whatever synchronous_commit says.
  ForceSyncCommit();
  ORDER_PROC_FAILPOINT("f3_decision_written");
  for (remote::Connection* const connection : written) {
    send_prepare(*connection);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f4_prepare_sent");
  }
  const remote::Deadline deadline = remote::after_milliseconds(remote::commit_timeout);
  for (remote::Connection* const connection : written) {
    const PGresult* const result =
        remote::next_result(*connection, remote::Interrupts::serve, deadline);
    const char* const tag =
        result == nullptr ? "" : pstrdup(PQcmdStatus(const_cast<PGresult*>(result)));
    (void)remote::next_result(*connection, remote::Interrupts::serve, deadline);
    if (connection->in_flight) raise_late(written, *connection);
    require_prepared(*connection, tag);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f6_prepared_first");
  }
  ORDER_PROC_FAILPOINT("f8_prepared");
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
    if (connection == prepared.front()) ORDER_PROC_FAILPOINT("f14_commit_prepared_first");
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
  if (pg::commit_lacks_standby()) {
    for (remote::Connection* const connection : prepared) {
      remote::transaction_over(*connection);
      connection->carried_out = {};
    }
    want_worker();
    ereport(WARNING,
            errmsg("the transaction is committed here, but no synchronous standby has it yet"),
            errdetail("The shards carry it out when one has it."),
            errhint("SELECT * FROM order_proc.in_doubt;"));
    return;
  }
  ORDER_PROC_FAILPOINT("f13_before_commit_prepared");
  const bool all = end_prepared(prepared, "COMMIT PREPARED", remote::commit_timeout);
  for (remote::Connection* const connection : prepared)
    connection->carried_out =
        all ? remote::CarriedOut{connection->gid, deciding_key} : remote::CarriedOut{};
  if (all) {
    carried_out = deciding_text();
    return;
  }
  want_worker();
  ereport(WARNING, errmsg("the transaction is committed, but a shard has yet to carry it out"),
          errhint("SELECT * FROM order_proc.recover();"));
}

void aborted(std::span<remote::Connection* const> prepared) {
  if (!end_prepared(prepared, "ROLLBACK PREPARED", abort_timeout)) want_worker();
}

}  // namespace

void watch_commits() {
  remote::set_commit_protocol({prepare, committed, aborted});
}

}  // namespace order_proc
