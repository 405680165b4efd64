// Aggregates in two halves: `partial` gives the state of any aggregate after its rows as a bytea,
// `combine` makes the result of such states. What they compute equals what a parallel plan would.
#pragma once

#include "aggregate_half.hpp"

namespace order_proc {

/// What shards compute of a query: the parameter of type internal of the functions that a query of
/// ours calls. Nobody can make one in SQL.
struct ShardHalf {
  const char* text;  ///< to be run on each shard
  std::span<const AggregateCall> aggregates;
};

}  // namespace order_proc
