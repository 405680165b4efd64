// A transaction that wrote on several shards, or on one and here, commits in two phases. Who
// decides:
//
//   the coordinator, when it wrote here too, or its commit may fail yet: all shards prepare; then
//   the local commit decides, since a row of the commit log is part of it; then the shards commit.
//
//   the last shard otherwise: all others prepare; then the last one commits in one phase, a receipt
//   with it; then the others commit. Two flushes of a log fewer. The row of the commit log is
//   written all the same, but not waited for: it tells whose receipts must be there.
//
// Whatever dies in between, recover() settles by that row or receipt: there, or never committed
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

/// What a shard waits for the coordinator beyond commit_timeout before it rolls back.
constexpr int grace = 2000;

/// order_proc.last_shard_decides
bool last_shard_decides = true;

/// What is known of the last shard's decision: `asked`: it may have committed.
bool asked = false;
bool decided = false;

core::Gid deciding{};
bool with_receipts = false;

Datum text_datum(std::string_view value) {
  return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

/// Until a transaction of version 1.7 has no timeline.
core::GidText deciding_text() {
  return pg::core_call(core::format_gid, deciding, !with_receipts);
}

/// The row whose commit is the decision, or follows it.
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

void require_receipt(remote::Connection& connection) {
  if (remote::error_code(connection) == ERRCODE_UNDEFINED_FUNCTION)
    ereport(ERROR, errcode(pg::store_mismatch),
            errmsg("shard %d (server \"%s\") has an older version of order_proc",
                   connection.shard_id, remote::server_name(connection.server)),
            errhint("ALTER EXTENSION order_proc UPDATE; there, or SET "
                    "order_proc.last_shard_decides = off; until then."));
  remote::raise_error(connection);
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

/// Names the transaction and the shard's part in it.
void name_part(remote::Connection& connection) {
  deciding.shard = static_cast<uint32>(connection.shard_id);
  connection.gid = deciding_text();
}

/// The receipt and PREPARE, in one round trip.
void send_prepare(remote::Connection& connection, int64 key) {
  name_part(connection);
  if (with_receipts) queue_receipt(connection, key);
  connection.prepared_here = true;
  remote::queue_text(connection, psprintf("PREPARE TRANSACTION '%s'", connection.gid.data()),
                     remote::Step::call, {});
  remote::send(connection);
}

/// The receipt that will be the decision. Its COMMIT follows apart: one that was sent is one that
/// the resolver can see the receipt of.
void send_deciding_receipt(remote::Connection& connection, int64 key) {
  name_part(connection);
  queue_deciding_receipt(connection, key, remote::commit_timeout + grace);
  remote::send(connection);
}

/// Waits until all have done what they were sent.
void wait_for_shards(std::span<remote::Connection* const> written,
                     const remote::Connection* decider) {
  const remote::Deadline deadline = remote::after_milliseconds(remote::commit_timeout);
  for (remote::Connection* const connection : written) {
    const PGresult* const result =
        remote::next_result(*connection, remote::Interrupts::serve, deadline);
    const char* const tag =
        result == nullptr ? "" : pstrdup(PQcmdStatus(const_cast<PGresult*>(result)));
    (void)remote::next_result(*connection, remote::Interrupts::serve, deadline);
    if (connection->in_flight) raise_late(written, *connection);
    if (connection == decider)
      require_receipt(*connection);
    else
      require_prepared(*connection, tag);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f6_prepared_first");
  }
}

void prepare(std::span<remote::Connection* const> written, bool here) {
  asked = decided = false;
  join_commit_barrier();
  const Store& store = open_tables_for_anyone({Table::cluster, Table::commit_log});
  const Cluster& cluster = cluster_without_slots(store);
  require_original(cluster);
  with_receipts = store.layout.has_receipts();
  remote::Connection* const decider =
      last_shard_decides && !here && written.size() > 1 && store.layout.has_deciders()
          ? written.back()
          : nullptr;
  deciding = {static_cast<uint64>(written[0]->coordinator_id),
              remote::incarnation().timeline,
              U64FromFullTransactionId(GetTopFullTransactionId()),
              pg::random_bits(),
              0,
              decider == nullptr ? core::no_decider : static_cast<uint32>(decider->shard_id)};
  const core::GidText text = deciding_text();
  const int64 key = with_receipts ? receipt_key(cluster, core::gid_base(text.data())) : 0;
  // Held until the shards know how it ended: as long the resolver leaves it alone.
  pg::acquire_lock(pg::LockKind::commit, deciding.nonce);
  write_decision(store, written);
  if (decider == nullptr)
    // The decision must be on disk before a shard commits, whatever synchronous_commit says.
    ForceSyncCommit();
  else
    pg::set_for_transaction("synchronous_commit", "off");
  ORDER_PROC_FAILPOINT("f3_decision_written");
  for (remote::Connection* const connection : written) {
    if (decider != nullptr && connection == decider)
      send_deciding_receipt(*connection, key);
    else
      send_prepare(*connection, key);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f4_prepare_sent");
  }
  wait_for_shards(written, decider);
  ORDER_PROC_FAILPOINT("f8_prepared");
  if (decider == nullptr) return;
  remote::commit_one(*decider, asked);
  decided = true;
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

/// Rows of the commit log pile up where no worker was ever started.
void want_worker_sometimes() {
  constexpr uint32 interval = 64;
  static uint32 commits = 0;
  if (commits++ % interval == 0) want_worker();
}

void committed(std::span<remote::Connection* const> prepared) {
  if (!decided && pg::commit_lacks_standby()) {
    for (remote::Connection* const connection : prepared) remote::transaction_over(*connection);
    want_worker();
    ereport(WARNING,
            errmsg("the transaction is committed here, but no synchronous standby has it yet"),
            errdetail("The shards carry it out when one has it."),
            errhint("SELECT * FROM order_proc.in_doubt;"));
    return;
  }
  ORDER_PROC_FAILPOINT("f13_before_commit_prepared");
  if (end_prepared(prepared, "COMMIT PREPARED", remote::commit_timeout))
    return want_worker_sometimes();
  want_worker();
  ereport(WARNING, errmsg("the transaction is committed, but a shard has yet to carry it out"),
          errhint("SELECT * FROM order_proc.recover();"));
}

void aborted(std::span<remote::Connection* const> prepared) {
  // The last shard may have committed: the resolver asks it.
  if (asked) {
    for (remote::Connection* const connection : prepared) remote::transaction_over(*connection);
    return want_worker();
  }
  // It has, and then the local commit failed.
  const bool done = decided ? end_prepared(prepared, "COMMIT PREPARED", remote::commit_timeout)
                            : end_prepared(prepared, "ROLLBACK PREPARED", abort_timeout);
  if (!done) want_worker();
}

}  // namespace

void define_commit_settings() {
  DefineCustomBoolVariable(
      "order_proc.last_shard_decides",
      "Lets the last shard's commit decide a transaction that wrote on several shards only.",
      "off leaves each decision to the coordinator: slower, but a shard that is lost while it "
      "commits leaves nothing unknown.",
      &last_shard_decides, true, PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

void watch_commits() {
  remote::set_commit_protocol({prepare, committed, aborted});
}

}  // namespace order_proc
