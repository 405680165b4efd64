// The transaction on a shard follows the local one: it begins at the first use that needs it, with
// the same isolation level; savepoints are mirrored when they are first used; it ends with the
// local one (ending.cpp). Several written shards are committed by two_phase.cpp, which hooks in
// here.
#pragma once

#include "remote/connection.hpp"

namespace order_proc::remote {

enum class Use {
  read,         ///< READ COMMITTED: in a transaction of its own, when none is open on the shard
  transaction,  ///< a read that must be part of the transaction
  write
};

/// Makes room for what the callbacks at the ends of transactions list: while allocating is allowed.
void make_room();

/// Queues what must come before a statement of the present (sub)transaction: settings, BEGIN,
/// savepoints.
void begin(Connection& connection, Use use);

/// The session's settings on the shard may be any, and are reset before its next use.
void settings_altered(Connection& connection);

/// Undoes on the shard a call that failed there, as long as it began the transaction on the shard,
/// or a savepoint: `depth` is what Connection::depth was before. False when it cannot be undone by
/// itself.
bool undo_call(Connection& connection, int depth);

/// Ends the transactions on shards that have only read so far.
void end_reads(std::span<Connection* const> connections);

/// Queues the beginning of a read-only transaction with one snapshot, which is taken at once, apart
/// from the local transaction; and its end, which undoes what a query set.
void begin_snapshot(Connection& connection);
void end_snapshot(Connection& connection);

/// Committing transactions that wrote on several shards, or on one and here.
struct CommitProtocol {
  /// Before the local commit; may raise, and then all is rolled back. `here`: the transaction wrote
  /// here too, or the local commit may fail yet.
  void (*prepare)(std::span<Connection* const> written, bool here);
  /// After it. Must not raise, allocate or wait without a deadline.
  void (*committed)(std::span<Connection* const> prepared);
  /// The local transaction is rolled back. The same rules.
  void (*aborted)(std::span<Connection* const> prepared);
};
void set_commit_protocol(const CommitProtocol& protocol);

/// Whether the call is all of the transaction, so that shards can be told in its own message how to
/// end: nothing else was done before it, here or there, and the local commit cannot fail.
bool is_whole_transaction(FunctionCallInfo call);

/// A call that is, and writes on one shard only, has it commit in the same message: one round trip
/// fewer. What it costs: when the shard cannot be heard any more during the call, it is not known
/// whether it was made (40003).
namespace commit_with_call {

/// Whether the call may, by its connection.
bool possible(FunctionCallInfo call, const Connection& connection);

/// Queues the commit behind the call.
void queue(Connection& connection);

/// Takes the end of the message: true when the shard has committed, and from then on nothing stops
/// the local transaction; false when it has rolled back, its error left in the connection. Raises
/// 40003 when that cannot be told, and the interrupt that ended the wait if it undid the call.
bool ended(Connection& connection);

}  // namespace commit_with_call

/// 40003: a commit that a shard has not confirmed.
[[noreturn]] void raise_commit_unknown(const Connection& connection, const char* detail);

/// Sends a command without raising or allocating: what fails shows as a lost connection.
void send_quietly(Connection& connection, const char* command);

/// Marks the transaction on the shard as over.
void transaction_over(Connection& connection);

/// order_proc.commit_timeout: how long a commit waits for a shard that does not answer.
extern int commit_timeout;

/// Milliseconds that an abort waits for the shards: a cancel is answered soon, and a shard whose
/// connection is closed rolls back by itself; what it has prepared is for the resolver.
inline constexpr int abort_timeout = 150;
/// And first for those that are still at something, which end it, most likely with the same error,
/// in less time than a cancel or a new connection takes.
inline constexpr int abort_grace = 20;

void define_transaction_settings();

}  // namespace order_proc::remote
