#include "aggregate_half.hpp"

#include "pg/error.hpp"
#include "pg/query.hpp"

namespace order_proc {

namespace {

using Encoding = AggregateHalf::Encoding;

/// Runs `body` with the aggregate's pg_aggregate row; 42809 without one.
template <typename F>
auto with_aggregate(Oid function, F&& body) {
  const HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
  if (!HeapTupleIsValid(tuple))
    ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
            errmsg("%s is not an aggregate", format_procedure(function)),
            errhint("SELECT aggfnoid FROM pg_catalog.pg_aggregate;"));
  const auto result = body(*reinterpret_cast<Form_pg_aggregate>(GETSTRUCT(tuple)), tuple);
  ReleaseSysCache(tuple);
  return result;
}

const char* obstacle(const FormData_pg_aggregate& aggregate, Oid variadic) {
  if (aggregate.aggkind != AGGKIND_NORMAL)
    return "Ordered-set and hypothetical-set aggregates need all rows in one place.";
  if (!OidIsValid(aggregate.aggcombinefn))
    return "It has no combine function, so PostgreSQL cannot compute it in parts either.";
  if (aggregate.aggtranstype == INTERNALOID &&
      (!OidIsValid(aggregate.aggserialfn) || !OidIsValid(aggregate.aggdeserialfn)))
    return "Its state cannot be serialized.";
  if (variadic == ANYOID) return "Aggregates with VARIADIC \"any\" are not supported.";
  return nullptr;
}

Oid variadic_type(Oid function) {
  const HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
  if (!HeapTupleIsValid(tuple)) return InvalidOid;
  const Oid type = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->provariadic;
  ReleaseSysCache(tuple);
  return type;
}

/// Types of PostgreSQL's own whose send function neither names objects by oid nor converts to the
/// client's encoding, which is another one on a shard.
bool sent_in_binary(Oid type) {
  const Oid element = get_element_type(type);
  const Oid base = OidIsValid(element) ? element : type;
  if (base >= FirstUnpinnedObjectId || get_typtype(base) != TYPTYPE_BASE) return false;
  switch (base) {
    case BYTEAOID:
    case UUIDOID:
    case OIDOID:
      return true;
    default:
      break;
  }
  switch (TypeCategory(base)) {
    case TYPCATEGORY_NUMERIC: {
      int16 length;
      bool by_value;
      char alignment;
      char delimiter;
      Oid parameter;
      Oid send;
      get_type_io_data(base, IOFunc_send, &length, &by_value, &alignment, &delimiter, &parameter,
                       &send);
      return send == F_INT2SEND || send == F_INT4SEND || send == F_INT8SEND ||
             send == F_FLOAT4SEND || send == F_FLOAT8SEND || send == F_NUMERIC_SEND ||
             send == F_CASH_SEND;
    }
    case TYPCATEGORY_BOOLEAN:
    case TYPCATEGORY_DATETIME:
    case TYPCATEGORY_TIMESPAN:
    case TYPCATEGORY_NETWORK:
    case TYPCATEGORY_GEOMETRIC:
    case TYPCATEGORY_BITSTRING:
      return true;
    default:
      return false;
  }
}

/// Types, and what follows from them, of a call; checked as far as a wrong one could crash.
struct Resolved {
  Oid state_type;
  Oid result_type;
  Encoding encoding;
};

Resolved resolve(const AggregateCall& call, Oid transition_type) {
  const int count = static_cast<int>(call.argument_types.size());
  Oid* declared;
  int declared_count;
  Oid result = get_func_signature(call.function, &declared, &declared_count);
  if (count != declared_count)
    ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
            errmsg("%s has %d arguments, not %d", format_procedure(call.function), declared_count,
                   count),
            errhint("Give the arguments, or their types, as the aggregate declares them."));
  const Oid* const actual = call.argument_types.data();
  for (const Oid type : call.argument_types)
    if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
      ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
              errmsg("type with OID %u does not exist", type),
              errhint("SELECT oid::regtype FROM pg_catalog.pg_type;"));
  const Oid state_type =
      resolve_aggregate_transtype(call.function, transition_type, const_cast<Oid*>(actual), count);
  result = enforce_generic_type_consistency(actual, declared, count, result, false);
  for (int i = 0; i < count; ++i)
    if (declared[i] != ANYOID && !IsBinaryCoercible(actual[i], declared[i]))
      ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
              errmsg("argument %d of %s is %s, not %s", i + 1, format_procedure(call.function),
                     format_type_be(declared[i]), format_type_be(actual[i])),
              errhint("Cast it to %s.", format_type_be(declared[i])));
  if (state_type == INTERNALOID) return {state_type, result, Encoding::serialized};
  if (get_typtype(state_type) == TYPTYPE_PSEUDO)
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("%s cannot be computed in parts", format_procedure(call.function)),
            errdetail("Its state has type %s.", format_type_be(state_type)),
            errhint("Use an aggregate whose state has a type of its own."));
  return {state_type, result, sent_in_binary(state_type) ? Encoding::binary : Encoding::text};
}

/// As the Agg node: the caller may run the aggregate, its owner the functions behind it.
void check_execute(Oid aggregate, std::initializer_list<Oid> functions) {
  if (!pg::may_execute(aggregate, GetUserId()))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_AGGREGATE, get_func_name(aggregate));
  InvokeFunctionExecuteHook(aggregate);
  const HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggregate));
  if (!HeapTupleIsValid(tuple)) return;
  const Oid owner = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner;
  ReleaseSysCache(tuple);
  for (const Oid function : functions) {
    if (!OidIsValid(function)) continue;
    if (!pg::may_execute(function, owner))
      aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
    InvokeFunctionExecuteHook(function);
  }
}

NullableDatum initial_value(HeapTuple tuple, Oid state_type) {
  bool null;
  const Datum written = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &null);
  if (null) return {0, true};
  Oid input;
  Oid parameter;
  getTypeInputInfo(state_type, &input, &parameter);
  return {OidInputFunctionCall(input, text_to_cstring(DatumGetTextPP(written)), parameter, -1),
          false};
}

/// What both sides must agree on, by name: how states of the type begin, advance and travel.
/// Aggregates that differ in their final functions only have the same states.
uint32 identity_of(const FormData_pg_aggregate& aggregate, HeapTuple tuple, Oid state_type) {
  pg_crc32c crc;
  INIT_CRC32C(crc);
  const auto add = [&](const char* text) { COMP_CRC32C(crc, text, strlen(text) + 1); };
  for (const Oid function : {aggregate.aggtransfn, aggregate.aggcombinefn, aggregate.aggserialfn,
                             aggregate.aggdeserialfn})
    add(OidIsValid(function) ? format_procedure_qualified(function) : "");
  add(format_type_be_qualified(state_type));
  bool null;
  const Datum initial = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &null);
  add(null ? "" : psprintf("=%s", text_to_cstring(DatumGetTextPP(initial))));
  return crc;
}

void prepare_codec(AggregateHalf* half, Oid state_type, Oid serial, bool writes) {
  Oid function = serial;
  bool varlena;
  if (half->encoding == Encoding::binary)
    writes ? getTypeBinaryOutputInfo(state_type, &function, &varlena)
           : getTypeBinaryInputInfo(state_type, &function, &half->io_parameter);
  else if (half->encoding == Encoding::text)
    writes ? getTypeOutputInfo(state_type, &function, &varlena)
           : getTypeInputInfo(state_type, &function, &half->io_parameter);
  fmgr_info_cxt(function, &half->codec, CurrentMemoryContext);
  if (half->encoding != Encoding::serialized) return;
  Expr* expression;
  writes ? build_aggregate_serialfn_expr(function, &expression)
         : build_aggregate_deserialfn_expr(function, &expression);
  fmgr_info_set_expr(reinterpret_cast<Node*>(expression), &half->codec);
}

/// What both halves have.
AggregateHalf* common_half(const AggregateCall& call, const Resolved& types,
                           const FormData_pg_aggregate& aggregate, HeapTuple tuple) {
  auto* const half = static_cast<AggregateHalf*>(palloc0(sizeof(AggregateHalf)));
  half->function = call.function;
  half->name = format_procedure(call.function);
  half->encoding = types.encoding;
  half->identity = identity_of(aggregate, tuple, types.state_type);
  half->state_type = types.state_type;
  get_typlenbyval(types.state_type, &half->state_length, &half->state_by_value);
  half->initial = initial_value(tuple, types.state_type);
  return half;
}

void prepare_step(AggregateHalf* half, Oid function, Expr* expression, int arguments,
                  Oid collation) {
  fmgr_info_cxt(function, &half->step, CurrentMemoryContext);
  fmgr_info_set_expr(reinterpret_cast<Node*>(expression), &half->step);
  half->call = static_cast<FunctionCallInfo>(palloc0(SizeForFunctionCallInfo(arguments)));
  InitFunctionCallInfoData(*half->call, &half->step, static_cast<int16>(arguments), collation,
                           nullptr, nullptr);
}

/// The first value of a strict aggregate without initial value is its state: the types must agree.
void check_strict_start(const AggregateHalf& half, Oid argument, Oid state_type) {
  if (half.step.fn_strict && half.initial.isnull && !IsBinaryCoercible(argument, state_type))
    ereport(ERROR, errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
            errmsg("%s needs to have compatible input type and transition type", half.name),
            errhint("Define the aggregate with INITCOND."));
}

Expr* combine_expression(Oid function, Oid state_type, Oid collation) {
  const auto parameter = [&] {
    Param* const param = makeNode(Param);
    param->paramkind = PARAM_EXEC;
    param->paramid = -1;
    param->paramtype = state_type;
    param->paramtypmod = -1;
    param->paramcollid = collation;
    param->location = -1;
    return param;
  };
  return reinterpret_cast<Expr*>(makeFuncExpr(function, state_type,
                                              list_make2(parameter(), parameter()), InvalidOid,
                                              collation, COERCE_EXPLICIT_CALL));
}

void prepare_final(AggregateHalf* half, const AggregateCall& call, const Resolved& types,
                   const FormData_pg_aggregate& aggregate) {
  if (!OidIsValid(aggregate.aggfinalfn)) return;
  half->final_arguments =
      1 + (aggregate.aggfinalextra ? static_cast<int>(call.argument_types.size()) : 0);
  fmgr_info_cxt(aggregate.aggfinalfn, &half->final, CurrentMemoryContext);
  Expr* expression;
  build_aggregate_finalfn_expr(const_cast<Oid*>(call.argument_types.data()), half->final_arguments,
                               types.state_type, types.result_type, call.collation,
                               aggregate.aggfinalfn, &expression);
  fmgr_info_set_expr(reinterpret_cast<Node*>(expression), &half->final);
}

/// Runs `make` with the aggregate's row in `memory`, when the aggregate can be halved at all.
template <typename F>
AggregateHalf* make_half(const AggregateCall& call, MemoryContext memory, F&& make) {
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  AggregateHalf* const half =
      with_aggregate(call.function, [&](const FormData_pg_aggregate& aggregate, HeapTuple tuple) {
        const char* const why = obstacle(aggregate, variadic_type(call.function));
        if (why != nullptr)
          ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                  errmsg("%s cannot be computed in parts", format_procedure(call.function)),
                  errdetail("%s", why),
                  errhint("SELECT aggfnoid FROM pg_catalog.pg_aggregate WHERE aggcombinefn <> 0;"));
        return make(aggregate, tuple);
      });
  MemoryContextSwitchTo(saved);
  return half;
}

}  // namespace

bool has_same_states(const AggregateCall& one, const AggregateCall& other) {
  if (one.function == other.function) return true;
  if (one.collation != other.collation) return false;
  const auto identity = [](const AggregateCall& call) {
    return with_aggregate(
        call.function, [&](const FormData_pg_aggregate& aggregate, HeapTuple tuple) {
          return identity_of(aggregate, tuple, resolve(call, aggregate.aggtranstype).state_type);
        });
  };
  return identity(one) == identity(other);
}

const char* obstacle_to_halves(Oid function) {
  return with_aggregate(function, [&](const FormData_pg_aggregate& aggregate, HeapTuple) {
    return obstacle(aggregate, variadic_type(function));
  });
}

bool result_is_state(Oid function) {
  return with_aggregate(function, [](const FormData_pg_aggregate& aggregate, HeapTuple) {
    return !OidIsValid(aggregate.aggfinalfn) && aggregate.aggtranstype != INTERNALOID;
  });
}

AggregateHalf* first_half(const AggregateCall& call, MemoryContext memory) {
  return make_half(call, memory, [&](const FormData_pg_aggregate& aggregate, HeapTuple tuple) {
    check_execute(call.function, {aggregate.aggtransfn, aggregate.aggserialfn});
    const Resolved types = resolve(call, aggregate.aggtranstype);
    const int count = static_cast<int>(call.argument_types.size());
    AggregateHalf* const half = common_half(call, types, aggregate, tuple);
    Expr* expression;
    build_aggregate_transfn_expr(const_cast<Oid*>(call.argument_types.data()), count, 0, false,
                                 types.state_type, call.collation, aggregate.aggtransfn, InvalidOid,
                                 &expression, nullptr);
    prepare_step(half, aggregate.aggtransfn, expression, count + 1, call.collation);
    if (count > 0) check_strict_start(*half, call.argument_types[0], types.state_type);
    prepare_codec(half, types.state_type, aggregate.aggserialfn, true);
    return half;
  });
}

AggregateHalf* second_half(const AggregateCall& call, Oid result, MemoryContext memory) {
  return make_half(call, memory, [&](const FormData_pg_aggregate& aggregate, HeapTuple tuple) {
    check_execute(call.function,
                  {aggregate.aggcombinefn, aggregate.aggdeserialfn, aggregate.aggfinalfn});
    const Resolved types = resolve(call, aggregate.aggtranstype);
    if (types.result_type != result)
      ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
              errmsg("%s returns %s, not %s", format_procedure(call.function),
                     format_type_be(types.result_type), format_type_be(result)),
              errhint("Give NULL::%s as the last argument.", format_type_be(types.result_type)));
    AggregateHalf* const half = common_half(call, types, aggregate, tuple);
    prepare_step(half, aggregate.aggcombinefn,
                 combine_expression(aggregate.aggcombinefn, types.state_type, call.collation), 2,
                 call.collation);
    prepare_codec(half, types.state_type, aggregate.aggdeserialfn, false);
    prepare_final(half, call, types, aggregate);
    return half;
  });
}

}  // namespace order_proc
