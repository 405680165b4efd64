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
#include "commit_rows.hpp"
#include "consistent_cut.hpp"
#include "core/gid.hpp"
#include "failpoints.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/random.hpp"
#include "pg/replication.hpp"
#include "pg/user.hpp"
#include "receipts.hpp"
#include "remote/cancel.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"
#include "worker.hpp"

namespace order_proc {

namespace {

CommitRows decisions{
    Table::commit_log, INT4ARRAYOID,
    pg::Statement{"INSERT INTO order_store.commit_log (gid, shard_ids) VALUES ($1, $2)", TEXTOID,
                  INT4ARRAYOID}};

/// What a shard waits for the coordinator beyond commit_timeout before it rolls back.
constexpr int grace = 2000;

/// order_proc.last_shard_decides
bool last_shard_decides = true;

/// Calls that do not try to prepare in their message after one that was too slow for it.
constexpr int skipped_attempts = 100;
int attempts_to_skip = 0;

/// The commit that is being made.
struct Commit {
  core::Gid gid;
  bool with_receipts;           ///< until a transaction of version 1.7 there are none
  remote::Connection* decider;  ///< null: the coordinator decides
  int64 key;                    ///< of the receipts
  bool with_call;               ///< the shards were asked in the message of the call
  std::size_t shard_count;      ///< as many then
  bool asked;                   ///< the decider may have committed
  bool decided;                 ///< it has
};
Commit present{};

/// A transaction of version 1.7 had no timeline.
core::GidText gid_text() {
  return pg::core_call(core::format_gid, present.gid, !present.with_receipts);
}

/// Whether the present transaction was prepared in the message of its call.
bool prepared_with_call() {
  return present.with_call &&
         present.gid.transaction == U64FromFullTransactionId(GetTopFullTransactionIdIfAny());
}

/// The row whose commit is the decision, or follows it.
void write_decision(const Store& store, std::span<remote::Connection* const> written) {
  auto* const shards = static_cast<Datum*>(palloc(sizeof(Datum) * written.size()));
  for (std::size_t i = 0; i < written.size(); ++i) shards[i] = Int32GetDatum(written[i]->shard_id);
  const core::GidText text = gid_text();
  const Datum shard_ids = PointerGetDatum(construct_array(
      shards, static_cast<int>(written.size()), INT4OID, sizeof(int32), true, TYPALIGN_INT));
  insert_commit_row(store, decisions, core::gid_base(text.data()), pg::Value(shard_ids));
}

/// Whether PREPARE, the last that was asked, prepared: in a failed transaction it rolls back.
bool has_prepared(const remote::Connection& connection) {
  return connection.result != nullptr &&
         std::string_view(PQcmdStatus(connection.result)) == "PREPARE TRANSACTION";
}

/// A shard that has said that it failed has nothing prepared, and its connection is of use.
void note_failure(remote::Connection& connection) {
  if (connection.in_flight || connection.lost || connection.error == nullptr ||
      remote::was_fatal(connection))
    return;
  connection.prepared_here = false;
  // PREPARE itself ends the transaction when it fails.
  if (PQtransactionStatus(connection.link) != PQTRANS_IDLE) return;
  connection.settings.known = false;
  remote::transaction_over(connection);
}

void require_prepared(remote::Connection& connection) {
  note_failure(connection);
  remote::raise_error(connection);
  if (has_prepared(connection)) return;
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
                             const remote::Connection& late, int milliseconds, const char* hint) {
  for (remote::Connection* const connection : written)
    if (connection->in_flight) remote::close_connection(*connection);
  want_worker();
  ereport(ERROR, errcode(ERRCODE_CONNECTION_FAILURE),
          errmsg("shard %d (server \"%s\") did not prepare the commit within %d ms", late.shard_id,
                 remote::server_name(late.server), milliseconds),
          errhint("Nothing is committed; run the transaction again.%s", hint));
}

}  // namespace

// The decider's receipt will be the decision; its COMMIT follows apart: one that was sent is one
// that the resolver can see the receipt of.
void queue_commit_part(remote::Connection& connection) {
  present.gid.shard = static_cast<uint32>(connection.shard_id);
  connection.gid = gid_text();
  if (&connection == present.decider)
    return queue_deciding_receipt(connection, present.key, remote::commit_timeout + grace);
  if (present.with_receipts) queue_receipt(connection, present.key);
  connection.prepared_here = true;
  remote::queue_text(connection, psprintf("PREPARE TRANSACTION '%s'", connection.gid.data()),
                     remote::Step::call, {});
}

namespace {

/// Waits until all have done what they were sent.
void wait_for_shards(std::span<remote::Connection* const> written) {
  const remote::Deadline deadline = remote::after_milliseconds(remote::commit_timeout);
  for (remote::Connection* const connection : written) {
    while (remote::next_result(*connection, remote::Interrupts::serve, deadline) != nullptr) {
    }
    if (connection->in_flight)
      raise_late(written, *connection, remote::commit_timeout,
                 " What takes a shard long to prepare needs a longer order_proc.commit_timeout.");
    if (connection == present.decider)
      require_receipt(*connection);
    else
      require_prepared(*connection);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f6_prepared_first");
  }
}

/// Whether a shard may decide a transaction that wrote nothing here.
bool may_leave_decision(const Store& store, std::size_t written) {
  return last_shard_decides && written > 1 && store.layout.has_deciders();
}

/// Names the transaction. From here until the shards know how it ended, cuts wait for it and the
/// resolver leaves it alone.
void name_commit(const Store& store, const remote::Connection& one, remote::Connection* decider,
                 uint64 nonce) {
  const Cluster& cluster = cluster_without_slots(store);
  require_original(cluster);
  present = {};
  present.with_receipts = store.layout.has_receipts();
  present.decider = decider;
  present.gid = {static_cast<uint64>(one.coordinator_id),
                 remote::incarnation().timeline,
                 U64FromFullTransactionId(GetTopFullTransactionId()),
                 nonce,
                 0,
                 decider == nullptr ? core::no_decider : static_cast<uint32>(decider->shard_id)};
  const core::GidText text = gid_text();
  if (present.with_receipts) present.key = receipt_key(cluster, core::gid_base(text.data()));
  pg::acquire_lock(pg::LockKind::commit, nonce);
}

const Store& open_commit_tables() {
  return open_tables_for_anyone({Table::cluster, Table::commit_log});
}

void ask_shards(std::span<remote::Connection* const> written) {
  for (remote::Connection* const connection : written) {
    queue_commit_part(*connection);
    remote::send(*connection);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f4_prepare_sent");
  }
  wait_for_shards(written);
}

void prepare(std::span<remote::Connection* const> written, bool here) {
  const bool asked_already = prepared_with_call();
  if (asked_already) {
    // Nobody can have written since; hooks of other libraries might.
    if (written.size() != present.shard_count)
      ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
              errmsg("the transaction wrote on more shards after it was prepared"),
              errhint("Call order_proc.create_orders in a transaction block."));
  } else {
    join_commit_barrier();
  }
  const Store& store = open_commit_tables();
  if (!asked_already)
    name_commit(store, *written[0],
                !here && may_leave_decision(store, written.size()) ? written.back() : nullptr,
                pg::random_bits());
  write_decision(store, written);
  if (present.decider == nullptr)
    // The decision must be on disk before a shard commits, whatever synchronous_commit says.
    ForceSyncCommit();
  else
    pg::set_for_transaction("synchronous_commit", "off");
  ORDER_PROC_FAILPOINT("f3_decision_written");
  if (!asked_already) ask_shards(written);
  ORDER_PROC_FAILPOINT("f8_prepared");
  if (present.decider == nullptr) return;
  remote::commit_one(*present.decider, present.asked);
  present.decided = true;
}

/// Ends the prepared transactions all at once; true when each shard said so.
bool end_prepared(std::span<remote::Connection* const> prepared, const char* command,
                  remote::Deadline deadline) {
  std::array<char, 128> text;
  (void)remote::finish_all(prepared, remote::Interrupts::hold, deadline);
  for (remote::Connection* const connection : prepared) {
    if (!connection->prepared_here || connection->in_flight || connection->lost) continue;
    snprintf(text.data(), text.size(), "%s '%s'", command, connection->gid.data());
    remote::send_quietly(*connection, text.data());
    if (connection == prepared.front()) ORDER_PROC_FAILPOINT("f14_commit_prepared_first");
  }
  bool all = remote::finish_all(prepared, remote::Interrupts::hold, deadline);
  for (remote::Connection* const connection : prepared) {
    if (!connection->prepared_here) continue;
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
  if (!present.decided && pg::commit_lacks_standby()) {
    for (remote::Connection* const connection : prepared) remote::transaction_over(*connection);
    want_worker();
    ereport(WARNING,
            errmsg("the transaction is committed here, but no synchronous standby has it yet"),
            errdetail("The shards carry it out when one has it."),
            errhint("SELECT * FROM order_proc.in_doubt;"));
    return;
  }
  ORDER_PROC_FAILPOINT("f13_before_commit_prepared");
  if (end_prepared(prepared, "COMMIT PREPARED", remote::after_milliseconds(remote::commit_timeout)))
    return want_worker_sometimes();
  want_worker();
  ereport(WARNING, errmsg("the transaction is committed, but a shard has yet to carry it out"),
          errhint("SELECT * FROM order_proc.recover();"));
}

/// Waits a moment for what shards are still at, then cancels it.
void stop_preparing(std::span<remote::Connection* const> prepared, remote::Deadline deadline) {
  if (!remote::finish_all(prepared, remote::Interrupts::hold,
                          remote::after_milliseconds(remote::abort_grace))) {
    (void)remote::cancel(prepared, deadline);
    (void)remote::finish_all(prepared, remote::Interrupts::hold, deadline);
  }
  for (remote::Connection* const connection : prepared) note_failure(*connection);
}

void aborted(std::span<remote::Connection* const> prepared) {
  // The last shard may have committed: the resolver asks it.
  if (present.asked) {
    for (remote::Connection* const connection : prepared) remote::transaction_over(*connection);
    return want_worker();
  }
  // It has, and then the local commit failed.
  const remote::Deadline deadline =
      remote::after_milliseconds(present.decided ? remote::commit_timeout : remote::abort_timeout);
  if (!present.decided) stop_preparing(prepared, deadline);
  if (!end_prepared(prepared, present.decided ? "COMMIT PREPARED" : "ROLLBACK PREPARED", deadline))
    want_worker();
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

namespace with_call {

bool possible(FunctionCallInfo call, std::span<remote::Connection* const> connections) {
  if (!remote::is_whole_transaction(call) ||
      std::any_of(connections.begin(), connections.end(),
                  [](const remote::Connection* connection) { return connection->pooled; }) ||
      !may_leave_decision(open_commit_tables(), connections.size()))
    return false;
  // An attempt that took too long is not made again at once: the shards are slow.
  if (attempts_to_skip == 0) return true;
  --attempts_to_skip;
  return false;
}

void begin(std::span<remote::Connection* const> connections) {
  join_commit_barrier();
  const uint64 nonce = pg::random_bits();
  name_commit(open_commit_tables(), *connections[0], connections[nonce % connections.size()],
              nonce);
  present.with_call = true;
  present.shard_count = connections.size();
}

bool done(remote::Connection& connection) {
  if (connection.in_flight || connection.lost) return false;
  if (connection.error != nullptr) connection.prepared_here = false;
  return connection.error == nullptr &&
         (&connection == present.decider || has_prepared(connection));
}

void take_back(std::span<remote::Connection* const> connections) {
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  auto** const prepared =
      static_cast<remote::Connection**>(palloc(sizeof(remote::Connection*) * connections.size()));
  std::size_t count = 0;
  for (remote::Connection* const connection : connections) {
    if (connection->in_flight) {
      attempts_to_skip = skipped_attempts;
      if (!remote::cancel_and_finish(*connection, deadline))
        raise_late(connections, *connection, 2 * patience, "");
    }
    const bool lost = connection->lost;
    // Its session may have prepared before it went.
    if (lost) (void)remote::reopen(*connection);
    connection->prepared_here =
        connection != present.decider && (lost || connection->error == nullptr);
    if (connection->prepared_here)
      prepared[count++] = connection;
    else if (!lost)
      (void)remote::undo_call(*connection, 0);
  }
  (void)end_prepared({prepared, count}, "ROLLBACK PREPARED", remote::after_milliseconds(patience));
  present.with_call = false;
  pg::release_lock(pg::LockKind::commit, present.gid.nonce);
  leave_commit_barrier();
}

}  // namespace with_call

}  // namespace order_proc
