// The commit barrier is a lock of this database: transactions over shards hold it shared from
// before they prepare until all shards have committed, a cut takes it exclusively for as long as
// it takes to look at the shards and take snapshots there. Behind the lock nothing is prepared but
// what a crash or a shard that did not answer left: a transaction in doubt, which may be visible on
// one shard and not on another. A shard is asked for such ones before its snapshot is taken: those
// that are settled in between were seen.
//
// On ERROR the lock goes with the transaction, as do the snapshots.
#include "consistent_cut.hpp"

#include "pg/locks.hpp"
#include "prepared.hpp"
#include "remote/pipeline.hpp"

namespace order_proc {

namespace {

/// How long a cut waits for commits under way and for what is in doubt.
constexpr int cut_timeout = 3000;
/// How long a shard may take to tell what is in doubt: commits wait meanwhile.
constexpr int answer_timeout = 2000;
/// Between looks at what is in doubt.
constexpr int pause = 20;

enum ReadConsistency { read_eventual, read_atomic };
int read_consistency = read_eventual;
constexpr std::array<config_enum_entry, 3> levels{
    {{"eventual", read_eventual, false}, {"atomic", read_atomic, false}, {nullptr, 0, false}}};

uint32 cuts_taken = 0;

/// One of the transactions over shards that are prepared on this one.
remote::Statement find_in_doubt{
    "SELECT p.gid, p.owner FROM pg_catalog.pg_prepared_xacts AS p "
    "WHERE " ORDER_PROC_PREPARED_BY_US " LIMIT 1"};

/// The shards that are looked at. With `warn` those that fail are taken out: what is begun on the
/// others holds.
struct Shards {
  std::span<remote::Connection*> connections;
  OnFailure on_failure;
  const char* pattern =
      prepared_pattern(cluster_without_slots(open_tables_for_anyone({Table::cluster})));

  void queue_find(remote::Connection& connection) const {
    remote::queue(connection, find_in_doubt, remote::Step::call, {{}, {&pattern, 1}, {}, {}});
  }

  /// Keeps those for which `stays` is true.
  template <typename F>
  void keep(F&& stays) {
    std::size_t count = 0;
    for (remote::Connection* const connection : connections)
      if (stays(*connection)) connections[count++] = connection;
    connections = connections.subspan(0, count);
  }
};

/// What a look at the shards found: what is in doubt, and where; or that sessions were gone.
struct Doubt {
  const remote::Connection* connection = nullptr;
  const char* gid = nullptr;
  const char* owner = nullptr;  ///< the role there
  bool gone = false;            ///< of some: see reopen_gone
};

/// Whether connections may turn out to be broken: nobody has used them since they were got.
enum class Turn { first, again };

/// Whether the session on the shard was gone and had nothing of the transaction.
bool may_reopen(const remote::Connection& connection) {
  return connection.depth == 0 && remote::session_gone(connection);
}

/// Raises what went wrong on the shard; or false when the shard is left out.
bool sound(remote::Connection& connection, OnFailure on_failure) {
  const bool may_be_left_out = on_failure == OnFailure::warn;
  if (connection.in_flight) {
    if (!may_be_left_out) raise_silent(connection, answer_timeout, nullptr);
    leave_out_silent(connection, answer_timeout, nullptr);
    return false;
  }
  if (may_be_left_out && remote::session_gone(connection)) {
    leave_out_lost(connection);
    return false;
  }
  remote::raise_error(connection);
  return true;
}

/// Reads the answers to queue_find, and what was sent behind it.
Doubt take_answers(Shards& shards, Turn turn) {
  const remote::Deadline deadline = remote::after_milliseconds(answer_timeout);
  Doubt doubt;
  shards.keep([&](remote::Connection& connection) {
    while (const PGresult* const result =
               remote::next_result(connection, remote::Interrupts::serve, deadline))
      if (PQntuples(result) > 0) {
        doubt.connection = &connection;
        doubt.gid = pstrdup(remote::cell(result, 0, 0));
        doubt.owner = pstrdup(remote::cell(result, 0, 1));
      }
    if (turn == Turn::again || connection.in_flight || !may_reopen(connection))
      return sound(connection, shards.on_failure);
    return doubt.gone = true;
  });
  return doubt;
}

Doubt find_doubt(Shards& shards, Turn turn) {
  for (remote::Connection* const connection : shards.connections) {
    shards.queue_find(*connection);
    remote::send(*connection);
  }
  return take_answers(shards, turn);
}

void reopen_gone(Shards& shards) {
  shards.keep([&](remote::Connection& connection) {
    return !may_reopen(connection) || reopen(connection, shards.on_failure);
  });
}

constexpr uint64 barrier_key = 0;

void close_barrier(remote::Deadline deadline) {
  const int64 left = (deadline - GetCurrentTimestamp()) / 1000;
  if (pg::acquire_lock_within(pg::LockKind::commit_barrier, barrier_key, static_cast<int>(left)))
    return;
  ereport(ERROR, errcode(pg::no_consistent_cut),
          errmsg("no consistent cut: transactions over shards are being committed"),
          errdetail("They did not end within %d ms.", cut_timeout),
          errhint("SELECT * FROM order_proc.shard_status; then try again."));
}

/// Lets commits pass while something is in doubt, and raises when that takes too long.
void wait_for_settlement(const Doubt& doubt, remote::Deadline deadline) {
  open_commit_barrier();
  if (remote::passed(deadline))
    ereport(
        ERROR, errcode(pg::no_consistent_cut),
        errmsg("no consistent cut: a transaction is in doubt on shard %d (server \"%s\")",
               doubt.connection->shard_id, remote::server_name(doubt.connection->server)),
        errdetail("It is prepared as %s, by role %s.", doubt.gid, quote_identifier(doubt.owner)),
        errhint("SELECT * FROM order_proc.recover(); then try again. When it stays, and "
                "order_proc.in_doubt calls it rollback: ROLLBACK PREPARED '%s'; on shard %d.",
                doubt.gid, doubt.connection->shard_id));
  (void)remote::wait_ready({}, remote::after_milliseconds(pause), remote::Interrupts::serve);
}

// --- snapshots -----------------------------------------------------------------------------------

/// READ COMMITTED: a transaction apart for the statement. One round trip.
Doubt take_snapshots_apart(Shards& shards, Turn turn) {
  for (remote::Connection* const connection : shards.connections) {
    // Settings of a session, if it keeps them.
    if (!connection->pooled) remote::begin(*connection, remote::Use::read);
    shards.queue_find(*connection);
    remote::queue_sync(*connection);
    remote::begin_snapshot(*connection);
    remote::send(*connection);
  }
  return take_answers(shards, turn);
}

/// Stricter levels: the transactions that end with the local one.
Doubt take_snapshots_inside(Shards& shards, Turn turn) {
  const Doubt doubt = find_doubt(shards, turn);
  if (doubt.connection != nullptr || doubt.gone) return doubt;
  ++cuts_taken;
  for (remote::Connection* const connection : shards.connections) {
    remote::begin(*connection, remote::Use::read);
    remote::queue_text(*connection, "SELECT 1", remote::Step::control, {});
    connection->cut = cuts_taken;
    remote::send(*connection);
  }
  return take_answers(shards, Turn::again);
}

/// Ends transactions apart on which nothing was started.
void drop_snapshots(std::span<remote::Connection* const> connections) {
  for (remote::Connection* const connection : connections) {
    if (!connection->left_open) continue;
    remote::end_snapshot(*connection);
    remote::send(*connection);
  }
}

/// Closes the barrier and looks at the shards until nothing is in doubt there. Commits do not wait
/// while connections that were found broken are replaced.
template <typename F>
void look_behind_barrier(Shards& shards, F&& look) {
  remote::Deadline deadline = remote::after_milliseconds(cut_timeout);
  for (Turn turn = Turn::first;; turn = Turn::again) {
    close_barrier(deadline);
    const Doubt doubt = look(shards, turn);
    if (doubt.connection == nullptr && !doubt.gone) return;
    if (doubt.gone) {
      open_commit_barrier();
      reopen_gone(shards);
      deadline = remote::after_milliseconds(cut_timeout);
    }
    drop_snapshots(shards.connections);
    (void)take_answers(shards, Turn::again);
    if (!doubt.gone) wait_for_settlement(doubt, deadline);
  }
}

[[noreturn]] void used_shards(const char* what, const char* hint) {
  ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
          errmsg("no consistent cut in a transaction that %s", what), errhint("%s", hint));
}

/// Whether the snapshots that the transaction has are of one cut; 25001 when they cannot be.
bool has_cut(std::span<remote::Connection* const> connections) {
  const auto open = [](const remote::Connection* c) { return c->depth > 0; };
  if (std::none_of(connections.begin(), connections.end(), open)) return false;
  if (!IsolationUsesXactSnapshot())
    used_shards("wrote on shards",
                "Read before the first write, or SET LOCAL order_proc.read_consistency = eventual; "
                "or read in a REPEATABLE READ transaction whose first use of shards is a read of "
                "all of them.");
  const uint32 cut = connections[0]->cut;
  if (cut == 0 || std::any_of(connections.begin(), connections.end(),
                              [&](const remote::Connection* c) { return c->cut != cut; }))
    used_shards("used some of the shards before",
                "Let its first use of shards be a read of all of them, or "
                "SET LOCAL order_proc.read_consistency = eventual;");
  return true;
}

}  // namespace

void join_commit_barrier() {
  const LOCKTAG tag = pg::lock_tag(pg::LockKind::commit_barrier, barrier_key);
  (void)LockAcquire(&tag, ShareLock, false, false);
}

void leave_commit_barrier() {
  const LOCKTAG tag = pg::lock_tag(pg::LockKind::commit_barrier, barrier_key);
  (void)LockRelease(&tag, ShareLock, false);
}

bool in_doubt_on(remote::Connection& connection) {
  remote::Connection* one[] = {&connection};
  Shards shards{one, OnFailure::error};
  Doubt doubt = find_doubt(shards, Turn::first);
  if (doubt.gone) {
    reopen_gone(shards);
    doubt = find_doubt(shards, Turn::again);
  }
  return doubt.connection != nullptr;
}

void open_commit_barrier() {
  pg::release_timed_lock(pg::LockKind::commit_barrier, barrier_key);
}

void close_commit_barrier(std::span<remote::Connection*> connections) {
  Shards shards{connections, OnFailure::error};
  look_behind_barrier(shards, find_doubt);
}

std::span<remote::Connection*> take_cut(std::span<remote::Connection*> connections,
                                        OnFailure on_failure) {
  // What is true of one shard is true of it alone.
  if (read_consistency == read_eventual || connections.size() < 2) return connections;
  if (RecoveryInProgress())
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("a standby of the coordinator cannot take a consistent cut"),
            errdetail("It does not know which transactions are being committed."),
            errhint("Read on the primary, or SET order_proc.read_consistency = eventual;"));
  if (!IsolationUsesXactSnapshot()) remote::end_reads(connections);
  if (has_cut(connections)) return connections;
  Shards shards{connections, on_failure};
  look_behind_barrier(shards,
                      IsolationUsesXactSnapshot() ? take_snapshots_inside : take_snapshots_apart);
  open_commit_barrier();
  return shards.connections;
}

void end_unused_cut(std::span<remote::Connection* const> connections) {
  drop_snapshots(connections);
}

bool reads_may_lag() {
  // A standby cannot begin what may write or be serializable.
  const bool standby_can =
      !IsolationUsesXactSnapshot() || (XactReadOnly && !IsolationIsSerializable());
  return standby_can && read_consistency == read_eventual;
}

void define_cut_settings() {
  DefineCustomEnumVariable(
      "order_proc.read_consistency",
      "What reads over several shards see of transactions over them.",
      "atomic: all of such a transaction or nothing of it; eventual: perhaps a part of it.",
      &read_consistency, read_eventual, levels.data(), PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

}  // namespace order_proc
