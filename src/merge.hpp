// Lists over all shards: each shard sends its rows in order, as many as can be needed; they are
// merged as they come. Memory: one row a shard.
#pragma once

#include "routing.hpp"

namespace order_proc {

/// The orders that the shards' calls return, newest first; `skip` of them are left out, then
/// `limit` are returned (all, when it is negative).
Datum merge_newest(FunctionCallInfo fcinfo, RemoteCall& call, const Cluster& cluster, int64 skip,
                   int64 limit);

/// order_counts: added up by status, ordered by status.
Datum merge_counts(FunctionCallInfo fcinfo, const Cluster& cluster);

/// get_orders: in the order asked for.
Datum merge_orders(FunctionCallInfo fcinfo, const Cluster& cluster, std::span<const int64> ids);

}  // namespace order_proc
