// Aggregates in two halves: `partial` gives the state of any aggregate after its rows as a bytea,
// `combine` makes the result of such states. What they compute equals what a parallel plan would.
#pragma once

#include "aggregate_half.hpp"

namespace order_proc {

/// What the final aggregates of a query are, by number: the parameter of type internal that
/// `combine` takes when a query of ours calls it. Nobody can make one in SQL.
struct CombineCalls {
  std::span<const AggregateCall> aggregates;
};

}  // namespace order_proc
