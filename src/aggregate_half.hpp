// One half of an aggregate of the server's: its functions, looked up once, run as the executor's
// Agg node runs them, and the bytes in which a state travels between servers.
//
// An AggregateHalf lives as long as the plan that calls it (fn_mcxt), a State as long as the group
// (the aggregate's context). On ERROR both go with their contexts.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc {

/// An aggregate as one query calls it.
struct AggregateCall {
  Oid function = InvalidOid;
  std::span<const Oid> argument_types;
  Oid collation = InvalidOid;
};

/// Why the aggregate cannot be computed in halves, for a DETAIL; null when it can.
const char* obstacle_to_halves(Oid function);

/// Whether two aggregates of the same arguments have the same state at any time, as sum and avg of
/// numeric have.
bool has_same_states(const AggregateCall& one, const AggregateCall& other);

/// Whether the aggregate's result is its state: no final function makes another value of it.
bool result_is_state(Oid function);

struct AggregateHalf {
  /// How the bytes of a state are written.
  enum class Encoding : char {
    serialized = 's',  ///< by the aggregate's own serial function
    binary = 'b',      ///< by the state type's send function
    text = 't',        ///< by the state type's output function
    null = 'n',        ///< no bytes: the state became NULL
  };

  Oid function;
  const char* name;  ///< for messages
  uint32 identity;   ///< checksum of what the state is a state of
  Oid state_type;
  int16 state_length;
  bool state_by_value;
  Encoding encoding;
  Oid io_parameter;
  NullableDatum initial;
  FmgrInfo step;   ///< the transition function, or the combine function
  FmgrInfo codec;  ///< writes states, or reads them
  FmgrInfo final;  ///< of the combining half; fn_oid invalid without one
  int final_arguments;
  FunctionCallInfo call;  ///< of step: arguments from 1 on are the caller's to fill
};

/// A group's state.
struct AggregateState {
  AggregateHalf* half;
  Datum value;
  bool null;
  bool none;  ///< a strict aggregate without initial value that saw no value yet
};

/// Looks up the half that makes states. Raises 42501, 42809, 42804 and 0A000.
AggregateHalf* first_half(const AggregateCall& call, MemoryContext memory);

/// Looks up the half that takes states and gives a result of type `result`.
AggregateHalf* second_half(const AggregateCall& call, Oid result, MemoryContext memory);

AggregateState* new_state(AggregateHalf* half, MemoryContext group);

/// Runs the step with the arguments in half->call. `aggregate`: the node that calls us.
void advance(AggregateState* state, fmNodePtr aggregate, MemoryContext group);

/// The state as bytes; null for one that equals the initial state of an aggregate that starts with
/// NULL.
bytea* encode(AggregateState* state, fmNodePtr aggregate);

/// The state that the bytes tell; without bytes the one of no rows. Raises 22P03 for what is no
/// state of this aggregate and 0A000 for one of another major version.
NullableDatum decode(AggregateHalf* half, const bytea* bytes, fmNodePtr aggregate);

/// The aggregate's result.
NullableDatum finalize(AggregateState* state, fmNodePtr aggregate);

}  // namespace order_proc
