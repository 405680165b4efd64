// A transaction that wrote on several shards, or on one and here, commits in two phases. Who
// decides:
//
//   the coordinator, when it wrote here too, or its commit may fail yet: all shards prepare; then
//   the local commit decides, since a row of the commit log is part of it; then the shards commit.
//
//   the shards otherwise: that all of them have prepared is the decision; then they commit. One
//   flush of a log fewer to wait for, and nothing is written here. Their identifiers list them, so
//   that the resolver can see whether all have, and whose receipts must be there.
//
// Whatever dies in between, recover() settles: by the row, or the receipts, or what is prepared;
// else it never committed (presumed abort).
//
// Who gives up a transaction that the shards may have decided already, because one of them is not
// heard, has the first that its identifiers list roll back, and nothing else before that is done:
// the resolver has that one commit first. So however long a command of a session that is gone is
// under way, one of the two comes too late.
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
#include "pg/compat.hpp"
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

/// order_proc.shards_decide
bool shards_decide = true;

/// Calls that do not try to prepare in their message after one that was too slow for it.
constexpr int skipped_attempts = 100;
int attempts_to_skip = 0;

/// How long, in milliseconds, shards that cannot be cancelled at once are waited for if it would
/// not be known otherwise what they made of the transaction.
constexpr int longer_abort = 1000;

/// The commit that is being made.
struct Commit {
  core::Gid gid;
  LocalTransactionId local;  ///< the transaction here
  bool with_receipts;        ///< until a transaction of version 1.7 there are none
  int64 key;                 ///< of the receipts
  std::size_t shard_count;   ///< as many take part
  std::size_t asked;         ///< as many were asked to prepare
  bool with_call;            ///< in the message of the call
  bool decided;              ///< by the shards: all of them have prepared
  bool undone;               ///< one never prepared, or rolled back: they cannot decide any more
};
Commit present{};

bool decided_by_shards() {
  return present.gid.decider_count > 0;
}

/// Whether the resolver could find that all shards have prepared.
bool may_be_decided() {
  return decided_by_shards() && present.asked == present.shard_count && !present.undone;
}

/// A transaction of version 1.7 had no timeline.
core::GidText gid_text() {
  return pg::core_call(core::format_gid, present.gid, !present.with_receipts);
}

/// Whether the present transaction was prepared in the message of its call.
bool prepared_with_call() {
  return present.with_call && present.local == pg::local_transaction();
}

/// The row whose commit is the decision.
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

/// A shard that has said that it failed has nothing prepared, and its connection is of use; unless
/// what failed was sent along and is not part of the transaction.
void note_failure(remote::Connection& connection) {
  if (connection.error == nullptr || remote::was_fatal(connection) || has_prepared(connection))
    return;
  present.undone = true;
  if (connection.in_flight || connection.lost) return;
  connection.prepared_here = false;
  // PREPARE itself ends the transaction when it fails.
  if (PQtransactionStatus(connection.link) != PQTRANS_IDLE) return;
  connection.settings.known = false;
  remote::transaction_over(connection);
}

/// OP002 from a shard whose version does not know how shards decide.
void require_deciding_version(const remote::Connection& connection) {
  if (remote::error_code(connection) != ERRCODE_UNDEFINED_FUNCTION ||
      strstr(remote::error_message(connection), "write_deciding_receipt") == nullptr)
    return;
  ereport(ERROR, errcode(pg::store_mismatch),
          errmsg("shard %d (server \"%s\") has an older version of order_proc", connection.shard_id,
                 remote::server_name(connection.server)),
          errhint("ALTER EXTENSION order_proc UPDATE; there, or SET order_proc.shards_decide = "
                  "off; until then."));
}

void require_prepared(remote::Connection& connection) {
  require_deciding_version(connection);
  remote::raise_error(connection);
  if (has_prepared(connection)) return;
  present.undone = true;
  ereport(ERROR, errcode(ERRCODE_TRANSACTION_ROLLBACK),
          errmsg("shard %d (server \"%s\") rolled the transaction back", connection.shard_id,
                 remote::server_name(connection.server)),
          errhint("Run the transaction again."));
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

void queue_commit_part(remote::Connection& connection) {
  present.gid.shard = static_cast<uint32>(connection.shard_id);
  connection.gid = gid_text();
  if (decided_by_shards())
    queue_deciding_receipt(connection, present.key);
  else if (present.with_receipts)
    queue_receipt(connection, present.key);
  connection.prepared_here = true;
  ++present.asked;
  // Of an earlier one: see has_prepared.
  PQclear(connection.result);
  connection.result = nullptr;
  remote::queue_text(connection, psprintf("PREPARE TRANSACTION '%s'", connection.gid.data()),
                     remote::Step::call, {});
}

namespace {

/// Ends the prepared transactions all at once; true when each shard said so.
bool end_prepared(std::span<remote::Connection* const> prepared, const char* command,
                  remote::Deadline deadline) {
  std::array<char, sizeof(core::GidText) + 32> text;
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

/// Waits a moment for what shards are still at, then cancels it.
void stop_preparing(std::span<remote::Connection* const> prepared, remote::Deadline deadline) {
  if (!remote::finish_all(prepared, remote::Interrupts::hold,
                          remote::after_milliseconds(remote::abort_grace))) {
    (void)remote::cancel(prepared, deadline);
    (void)remote::finish_all(prepared, remote::Interrupts::hold, deadline);
  }
  for (remote::Connection* const connection : prepared) note_failure(*connection);
}

/// Whether nothing is known of what the shard made of PREPARE.
bool unheard(const remote::Connection& connection) {
  return connection.in_flight || connection.lost || remote::was_fatal(connection);
}

/// Sees to it that the shards cannot decide any more, so that the others may be rolled back; false
/// when that is not known: then what they have prepared is for the resolver. Of no use is then what
/// is still under way. Waits abort_timeout, however long others were waited for.
bool undo_decision(std::span<remote::Connection* const> prepared) {
  if (!may_be_decided()) return true;
  const remote::Deadline deadline = remote::after_milliseconds(remote::abort_timeout);
  const auto first =
      std::find_if(prepared.begin(), prepared.end(), [](const remote::Connection* connection) {
        return connection->shard_id == present.gid.deciders[0] && connection->prepared_here &&
               !connection->in_flight && !connection->lost;
      });
  if (first != prepared.end() && end_prepared({&*first, 1}, "ROLLBACK PREPARED", deadline)) {
    present.undone = true;
    return true;
  }
  for (remote::Connection* const connection : prepared) {
    if (connection->in_flight || connection->lost) remote::close_connection(*connection);
    remote::transaction_over(*connection);
  }
  want_worker();
  return false;
}

/// A shard was not heard when all were waited for: raises why.
[[noreturn]] void give_up(std::span<remote::Connection* const> written, remote::Connection& silent,
                          remote::Deadline deadline) {
  if (decided_by_shards()) {
    const bool lost = !silent.in_flight;
    const bool late = remote::passed(deadline);
    if (late) {
      // Others have answered by now; who is late is not waited for once more.
      (void)remote::finish_all(written, remote::Interrupts::hold,
                               remote::after_milliseconds(remote::abort_grace));
      for (remote::Connection* const connection : written) note_failure(*connection);
    } else {
      stop_preparing(written, remote::after_milliseconds(remote::abort_timeout));
      // As long as nobody could tell what became of it, that is worth another wait.
      if (may_be_decided()) stop_preparing(written, remote::after_milliseconds(longer_abort));
    }
    if (!undo_decision(written))
      remote::raise_commit_unknown(
          silent, lost ? "The connection was lost while it prepared the commit."
                       : (late ? "It did not prepare within order_proc.commit_timeout."
                               : "The commit was canceled, and it did not answer."));
  }
  CHECK_FOR_INTERRUPTS();
  remote::raise_error(silent);
  // It may have answered since.
  raise_late(written, silent, remote::commit_timeout,
             " What takes a shard long to prepare needs a longer order_proc.commit_timeout.");
}

/// Waits until all have done what they were sent.
void wait_for_shards(std::span<remote::Connection* const> written) {
  const remote::Deadline deadline = remote::after_milliseconds(remote::commit_timeout);
  for (remote::Connection* const connection : written) {
    while (remote::next_result(*connection, remote::Interrupts::leave, deadline) != nullptr) {
    }
    note_failure(*connection);
    if (unheard(*connection)) give_up(written, *connection, deadline);
    require_prepared(*connection);
    if (connection == written.front()) ORDER_PROC_FAILPOINT("f6_prepared_first");
  }
}

/// Whether the shards may decide a transaction that wrote nothing here.
bool may_leave_decision(const Store& store, std::size_t written) {
  return shards_decide && written > 1 && written <= core::most_deciders &&
         store.layout.has_deciders();
}

/// Names the transaction. From here until the shards know how it ended, cuts wait for it and the
/// resolver leaves it alone.
void name_commit(const Store& store, std::span<remote::Connection* const> written, bool by_shards) {
  const Cluster& cluster = cluster_without_slots(store);
  require_original(cluster);
  present = {};
  present.local = pg::local_transaction();
  present.with_receipts = store.layout.has_receipts();
  present.shard_count = written.size();
  present.gid.coordinator = static_cast<uint64>(written[0]->coordinator_id);
  present.gid.timeline = remote::incarnation().timeline;
  // What writes nothing here is to have no id.
  present.gid.transaction =
      by_shards ? present.local : U64FromFullTransactionId(GetTopFullTransactionId());
  present.gid.nonce = pg::random_bits();
  if (by_shards)
    for (const remote::Connection* const connection : written)
      present.gid.deciders[present.gid.decider_count++] = static_cast<uint16>(connection->shard_id);
  const core::GidText text = gid_text();
  if (present.with_receipts) present.key = receipt_key(cluster, core::gid_base(text.data()));
  pg::acquire_lock(pg::LockKind::commit, present.gid.nonce);
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
  if (!asked_already) {
    const Store& store = open_tables_for_anyone({Table::cluster});
    name_commit(store, written, !here && may_leave_decision(store, written.size()));
  }
  if (!decided_by_shards()) {
    write_decision(open_tables_for_anyone({Table::commit_log}), written);
    // It must be on disk before a shard commits, whatever synchronous_commit says.
    ForceSyncCommit();
  }
  ORDER_PROC_FAILPOINT("f3_decision_written");
  if (!asked_already) ask_shards(written);
  ORDER_PROC_FAILPOINT("f8_prepared");
  present.decided = decided_by_shards();
}

/// Receipts and rows of the commit log pile up where no worker was ever started.
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

void aborted(std::span<remote::Connection* const> prepared) {
  const remote::Deadline deadline = remote::after_milliseconds(remote::abort_timeout);
  stop_preparing(prepared, deadline);
  if (!undo_decision(prepared)) {
    ereport(WARNING, errmsg("the shards may have committed the transaction nevertheless"),
            errhint("SELECT * FROM order_proc.recover();"));
    return;
  }
  if (!end_prepared(prepared, "ROLLBACK PREPARED", deadline)) want_worker();
}

}  // namespace

void define_commit_settings() {
  DefineCustomBoolVariable(
      "order_proc.shards_decide",
      "Lets the shards decide a transaction that wrote on several shards only.",
      "off leaves each decision to the coordinator: slower, but a shard that is lost while it "
      "prepares leaves nothing unknown.",
      &shards_decide, true, PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

void watch_commits() {
  remote::set_commit_protocol({prepare, committed, aborted});
}

namespace with_call {

bool possible(FunctionCallInfo call, std::span<remote::Connection* const> connections) {
  if (!remote::is_whole_transaction(call) ||
      std::any_of(connections.begin(), connections.end(),
                  [](const remote::Connection* connection) { return connection->pooled; }) ||
      !may_leave_decision(open_tables_for_anyone({Table::cluster}), connections.size()))
    return false;
  // An attempt that took too long is not made again at once: the shards are slow.
  if (attempts_to_skip == 0) return true;
  --attempts_to_skip;
  return false;
}

void begin(std::span<remote::Connection* const> connections) {
  join_commit_barrier();
  name_commit(open_tables_for_anyone({Table::cluster}), connections, true);
  present.with_call = true;
}

bool done(remote::Connection& connection) {
  note_failure(connection);
  require_deciding_version(connection);
  return !connection.in_flight && !connection.lost && connection.error == nullptr &&
         has_prepared(connection);
}

void take_back(std::span<remote::Connection* const> connections) {
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  remote::Connection* silent = nullptr;
  for (remote::Connection* const connection : connections) {
    if (connection->in_flight) {
      attempts_to_skip = skipped_attempts;
      (void)remote::cancel_and_finish(*connection, deadline);
    }
    note_failure(*connection);
    if (unheard(*connection)) silent = connection;
  }
  if (!undo_decision(connections))
    remote::raise_commit_unknown(silent == nullptr ? *connections[0] : *silent,
                                 "It did not answer while it prepared the commit.");
  if (silent != nullptr && silent->in_flight) raise_late(connections, *silent, 2 * patience, "");
  auto** const prepared =
      static_cast<remote::Connection**>(palloc(sizeof(remote::Connection*) * connections.size()));
  std::size_t count = 0;
  for (remote::Connection* const connection : connections) {
    if (unheard(*connection)) {
      // Its session may have prepared before it went.
      (void)remote::reopen(*connection);
      connection->prepared_here = true;
    }
    if (connection->prepared_here)
      prepared[count++] = connection;
    else
      (void)remote::undo_call(*connection, 0);
  }
  (void)end_prepared({prepared, count}, "ROLLBACK PREPARED", remote::after_milliseconds(patience));
  present.with_call = false;
  pg::release_lock(pg::LockKind::commit, present.gid.nonce);
  leave_commit_barrier();
  CHECK_FOR_INTERRUPTS();
}

}  // namespace with_call

}  // namespace order_proc
