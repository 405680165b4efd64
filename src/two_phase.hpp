// Commit in two phases over the shards.
#pragma once

#include "remote/transaction.hpp"

namespace order_proc {

/// Settings; once, from _PG_init.
void define_commit_settings();

/// Hooks into the ends of transactions; once, from _PG_init.
void watch_commits();

/// Queues what the commit wants of a shard that wrote, under the name that begin, or the commit,
/// has given the transaction: a receipt, and PREPARE.
void queue_commit_part(remote::Connection& connection);

/// What a call that is all of its transaction, and writes on several shards, can have them do in
/// its own message: prepare. One round trip fewer.
namespace with_call {

/// How long, in milliseconds, the shards may take for it. Cuts wait for a commit that has begun,
/// and this one begins before the call.
inline constexpr int patience = 1000;

/// Whether the call may: `connections` are all that it writes on, and they will decide.
bool possible(FunctionCallInfo call, std::span<remote::Connection* const> connections);

/// Names the transaction: behind each call goes queue_commit_part.
void begin(std::span<remote::Connection* const> connections);

/// Whether a shard that has answered did all of it. What failed there is not prepared.
bool done(remote::Connection& connection);

/// Undoes all of it, also what is still under way, so that the call can be made once more, then
/// without. Raises 08006 when a shard does not answer, 40003 when it is not known for that whether
/// the call was made.
void take_back(std::span<remote::Connection* const> connections);

}  // namespace with_call

}  // namespace order_proc
