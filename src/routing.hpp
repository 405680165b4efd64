// Calls on a coordinator run on the shards: the same function with the same arguments, values in
// binary. The caller needs on the coordinator's own tables what the call needs there.
#pragma once

#include "needs.hpp"
#include "cluster.hpp"
#include "pg/args.hpp"
#include "pg/spi.hpp"
#include "remote/transaction.hpp"
#include "remote/wait.hpp"

namespace order_proc {

/// The store's cluster, when this database coordinates one and the call has to go to its shards;
/// else null. Checks `needs` as the executor would here: 42501, and 0A000 where row security would
/// apply to the caller.
const Cluster* routed(std::span<const Need> needs);

/// The same for what goes to all shards and asks for no rights of the caller's on tables: which
/// shard has which slot may not be known.
const Cluster* routed_to_all();

/// The shard of a customer or an order.
const remote::Target& shard_of_customer(const Cluster& cluster, int64 customer_id);
const remote::Target& shard_of_order(const Cluster& cluster, int64 order_id);

/// Where a call goes: to the shard that has the slot, which may be another one when it is tried
/// again.
struct Route {
  const Cluster& cluster;
  int slot;
};
Route route_of_customer(const Cluster& cluster, int64 customer_id);
Route route_of_order(const Cluster& cluster, int64 order_id);

/// A call of a function of ours on shards, made from the call that is running: its name, its types,
/// its arguments unless others are given.
class RemoteCall {
 public:
  RemoteCall(FunctionCallInfo fcinfo, remote::Use use);

  /// Replaces an argument for what is sent from now on.
  void set(int argument, pg::Value value);

  /// What else goes with the message of each call from now on.
  void end_with(void (*queue)(remote::Connection&));

  /// Runs on one shard: the result. When the shard says that the slot is not there (OP402), and the
  /// call can be undone by itself, the map is read anew and the call is tried again for 5 s.
  Datum run(const Route& route);

  /// Starts on a shard; rows are fetched one by one.
  void start(remote::Connection& connection);
  /// The next row, or the scalar; nullopt at the end. In the current memory context.
  std::optional<pg::Value> next(remote::Connection& connection);
  /// The same, but leaves an error of the shard in the connection; nullopt also when the wait ends
  /// before.
  std::optional<pg::Value> next_or_error(remote::Connection& connection,
                                         remote::Deadline deadline = remote::never,
                                         remote::Interrupts interrupts = remote::Interrupts::serve);

  /// Runs on one shard, with its commit when that is `possible` (see commit_with_call): the result,
  /// or nullopt with the shard's error in the connection.
  std::optional<pg::Value> run_on(remote::Connection& connection, FunctionCallInfo caller);

 private:
  struct Function;
  struct Sent;
  static Function& describe(Oid oid);
  void send(remote::Connection& connection, bool streaming);
  void transmit(const Sent& sent);
  /// Once more when the session on the shard was gone and had nothing of this transaction.
  bool send_again(const remote::Connection& connection);

  FunctionCallInfo fcinfo_;
  Function& function_;
  remote::Use use_;
  std::array<pg::Value, 16> arguments_;
  void (*queue_end_)(remote::Connection&) = nullptr;
  Sent* sent_ = nullptr;  ///< in the memory of the caller of start
};

/// The whole of a function that runs on one shard.
Datum call_on_shard(FunctionCallInfo fcinfo, const Route& route, remote::Use use);

/// The function on all shards at once, for functions that return a count: the sum.
Datum sum_over_shards(FunctionCallInfo fcinfo, const Cluster& cluster, remote::Use use);

/// Connections to all shards, in the caller's memory.
std::span<remote::Connection*> connect_all(const Cluster& cluster, bool reads);

}  // namespace order_proc
