// Reads over shards that never see half of a transaction over shards: snapshots are taken on all of
// them at a moment when no such transaction is being committed.
#pragma once

#include "left_out.hpp"
#include "remote/wait.hpp"
#include "routing.hpp"

namespace order_proc {

/// For a transaction over shards, before the first of them prepares: held until all have committed
/// or rolled back, which is what a cut waits for. Raises 55P03 after lock_timeout.
void join_commit_barrier();
/// For one that was undone before it was decided.
void leave_commit_barrier();

/// From then until it is opened no transaction over shards of this coordinator is being committed,
/// and none is in doubt on the shards. OP502 when it does not come to that within 3 s.
void close_commit_barrier(std::span<remote::Connection*> connections);
void open_commit_barrier();

/// Whether a transaction of the coordinator is prepared on the shard.
bool in_doubt_on(remote::Connection& connection);

/// With order_proc.read_consistency = atomic: what is started next on the connections (and all that
/// follows, in a REPEATABLE READ transaction) sees the same transactions over shards. Raises OP502,
/// 25001 when the transaction used shards in a way that rules it out. Those of the connections that
/// it is about: with `warn` shards that fail meanwhile are left out.
std::span<remote::Connection*> take_cut(std::span<remote::Connection*> connections,
                                        OnFailure on_failure);

/// Those on which nothing was started.
void end_unused_cut(std::span<remote::Connection* const> connections);

/// Whether reads may go to standbys.
bool reads_may_lag();

void define_cut_settings();

}  // namespace order_proc
