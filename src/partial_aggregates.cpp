// The aggregates order_proc.partial and order_proc.combine, and partial_result: what their
// functions do with the arguments. The work is in aggregate_half.cpp and aggregate_state.cpp.
//
// Metadata is looked up at the first row of a plan and hangs on fn_extra; a group costs its state.
#include "partial_aggregates.hpp"

#include "pg/args.hpp"
#include "pg/error.hpp"

namespace order_proc {

namespace {

/// The context of the group; 0A000 for a call that no aggregate makes.
MemoryContext group_context(FunctionCallInfo fcinfo) {
  MemoryContext group;
  if (AggCheckCallContext(fcinfo, &group) == 0)
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("%s is called by its aggregate only", get_func_name(fcinfo->flinfo->fn_oid)),
            errhint("Call order_proc.partial or order_proc.combine."));
  return group;
}

void check_same(const AggregateHalf& half, Oid function) {
  if (half.function != function)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("the aggregate is %s in one row and %s in another", half.name,
                   format_procedure(function)),
            errhint("Give a constant."));
}

/// What an earlier row of the plan has looked up; null at the first.
AggregateHalf* known_half(FunctionCallInfo fcinfo, Oid function) {
  auto* const known = static_cast<AggregateHalf*>(fcinfo->flinfo->fn_extra);
  if (known != nullptr) check_same(*known, function);
  return known;
}

/// The half that makes the states of this call.
AggregateHalf* partial_half(FunctionCallInfo fcinfo) {
  const Oid function = pg::Args(fcinfo).get_oid(1, "aggregate");
  if (AggregateHalf* const known = known_half(fcinfo, function)) return known;
  if (get_fn_expr_variadic(fcinfo->flinfo))
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("partial does not take VARIADIC arguments"), errhint("Give them one by one."));
  std::array<Oid, FUNC_MAX_ARGS> types;
  const auto count = static_cast<std::size_t>(PG_NARGS() - 2);
  for (std::size_t i = 0; i < count; ++i)
    types[i] = get_fn_expr_argtype(fcinfo->flinfo, static_cast<int>(i) + 2);
  AggregateHalf* const half =
      first_half({function, {types.data(), count}, PG_GET_COLLATION()}, fcinfo->flinfo->fn_mcxt);
  fcinfo->flinfo->fn_extra = half;
  return half;
}

AggregateState* state_of(FunctionCallInfo fcinfo) {
  return PG_ARGISNULL(0) ? nullptr : reinterpret_cast<AggregateState*>(PG_GETARG_POINTER(0));
}

std::span<const Oid> types_in(ArrayType* array) {
  if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("argument_types must be a one-dimensional array without NULL"),
            errhint("Give the types of the aggregate's arguments."));
  const int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
  return {reinterpret_cast<const Oid*>(ARR_DATA_PTR(array)), static_cast<std::size_t>(count)};
}

/// The half whose states are the results that partial_result is given.
AggregateHalf* half_of_result(FunctionCallInfo fcinfo) {
  const pg::Args args(fcinfo);
  const Oid function = args.get_oid(0, "aggregate");
  if (AggregateHalf* const known = known_half(fcinfo, function)) return known;
  const AggregateCall call{function, types_in(DatumGetArrayTypeP(args.datum(1, "argument_types"))),
                           PG_GET_COLLATION()};
  AggregateHalf* const half = first_half(call, fcinfo->flinfo->fn_mcxt);
  if (!result_is_state(function))
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("the result of %s is not its state", half->name),
            errhint("Call order_proc.partial in its place."));
  const Oid given = get_fn_expr_argtype(fcinfo->flinfo, 2);
  if (given != half->state_type)
    ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
            errmsg("%s returns %s, not %s", half->name, format_type_be(half->state_type),
                   format_type_be(given)),
            errhint("Give what the aggregate returns."));
  fcinfo->flinfo->fn_extra = half;
  return half;
}

AggregateHalf* combining_half(FunctionCallInfo fcinfo, AggregateCall call) {
  call.collation = PG_GET_COLLATION();
  const Oid result = get_fn_expr_argtype(fcinfo->flinfo, 4);
  AggregateHalf* const half = second_half(call, result, fcinfo->flinfo->fn_mcxt);
  fcinfo->flinfo->fn_extra = half;
  return half;
}

AggregateHalf* half_by_name(FunctionCallInfo fcinfo) {
  const pg::Args args(fcinfo);
  const Oid function = args.get_oid(1, "aggregate");
  if (AggregateHalf* const known = known_half(fcinfo, function)) return known;
  return combining_half(fcinfo,
                        {function, types_in(DatumGetArrayTypeP(args.datum(2, "argument_types")))});
}

AggregateHalf* half_by_number(FunctionCallInfo fcinfo) {
  if (auto* const known = static_cast<AggregateHalf*>(fcinfo->flinfo->fn_extra)) return known;
  const pg::Args args(fcinfo);
  const auto* const shard =
      reinterpret_cast<const ShardHalf*>(DatumGetPointer(args.datum(1, "shard")));
  return combining_half(
      fcinfo, shard->aggregates[static_cast<std::size_t>(args.get_int32(2, "aggregate"))]);
}

/// Adds the state in argument 3 to the group's.
template <typename F>
Datum combine(FunctionCallInfo fcinfo, F&& half_of) {
  const MemoryContext group = group_context(fcinfo);
  AggregateHalf* const half = half_of(fcinfo);
  AggregateState* state = state_of(fcinfo);
  if (state == nullptr) state = new_state(half, group);
  half->call->args[1] =
      decode(half, PG_ARGISNULL(3) ? nullptr : PG_GETARG_BYTEA_PP(3), fcinfo->context);
  advance(state, fcinfo->context, group);
  PG_RETURN_POINTER(state);
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_partial_step);
Datum order_proc_partial_step(PG_FUNCTION_ARGS) {
  const MemoryContext group = group_context(fcinfo);
  AggregateHalf* const half = partial_half(fcinfo);
  AggregateState* state = state_of(fcinfo);
  if (state == nullptr) state = new_state(half, group);
  for (int i = 1; i < half->call->nargs; ++i) half->call->args[i] = fcinfo->args[i + 1];
  advance(state, fcinfo->context, group);
  PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(order_proc_partial_final);
Datum order_proc_partial_final(PG_FUNCTION_ARGS) {
  (void)group_context(fcinfo);
  AggregateState* const state = state_of(fcinfo);
  const bytea* const bytes = state == nullptr ? nullptr : encode(state, fcinfo->context);
  if (bytes == nullptr) PG_RETURN_NULL();
  PG_RETURN_BYTEA_P(bytes);
}

PG_FUNCTION_INFO_V1(order_proc_partial_result);
Datum order_proc_partial_result(PG_FUNCTION_ARGS) {
  AggregateHalf* const half = half_of_result(fcinfo);
  AggregateState state{half, PG_GETARG_DATUM(2), PG_ARGISNULL(2), false};
  const bytea* const bytes = encode(&state, nullptr);
  if (bytes == nullptr) PG_RETURN_NULL();
  PG_RETURN_BYTEA_P(bytes);
}

PG_FUNCTION_INFO_V1(order_proc_combine_step);
Datum order_proc_combine_step(PG_FUNCTION_ARGS) {
  return combine(fcinfo, half_by_name);
}

PG_FUNCTION_INFO_V1(order_proc_combine_numbered_step);
Datum order_proc_combine_numbered_step(PG_FUNCTION_ARGS) {
  return combine(fcinfo, half_by_number);
}

PG_FUNCTION_INFO_V1(order_proc_combine_final);
Datum order_proc_combine_final(PG_FUNCTION_ARGS) {
  (void)group_context(fcinfo);
  AggregateState* const state = state_of(fcinfo);
  if (state == nullptr) PG_RETURN_NULL();
  const NullableDatum result = finalize(state, fcinfo->context);
  if (result.isnull) PG_RETURN_NULL();
  return result.value;
}

}  // extern "C"

}  // namespace order_proc
