// States of groups: how they advance, travel and end (see aggregate_half.hpp). As short as the Agg
// node of the executor allows: this runs once a row or once a group.
#include "aggregate_half.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/user.hpp"

extern "C" {
#include "libpq/pqformat.h"
#include "utils/float.h"
}

namespace order_proc {

namespace {

using Encoding = AggregateHalf::Encoding;

/// Before the bytes of a state: format, major version of the server, encoding, checksum.
constexpr std::size_t header_size = 7;
constexpr char format_version = 2;
constexpr int major_version = PG_MAJORVERSION_NUM;

/// Keeps a value that `advance` got in the group's memory, as the Agg node does: a function may
/// return an expanded object that lives there already.
Datum keep(const AggregateHalf& half, Datum value, MemoryContext group) {
  if (half.state_length == -1 && VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(value)) &&
      MemoryContextGetParent(DatumGetEOHP(value)->eoh_context) == group)
    return value;
  const MemoryContext saved = MemoryContextSwitchTo(group);
  const Datum copy = datumCopy(value, half.state_by_value, half.state_length);
  MemoryContextSwitchTo(saved);
  return copy;
}

void forget(const AggregateHalf& half, Datum value) {
  if (half.state_length == -1 && VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(value)))
    DeleteExpandedObject(value);
  else
    pfree(DatumGetPointer(value));
}

uint32 checksum(const AggregateHalf& half, Encoding encoding, const char* bytes, std::size_t size) {
  pg_crc32c crc = half.identity;
  COMP_CRC32C(crc, &encoding, 1);
  COMP_CRC32C(crc, bytes, size);
  FIN_CRC32C(crc);
  return crc;
}

bytea* with_header(const AggregateHalf& half, Encoding encoding, const char* bytes,
                   std::size_t size) {
  auto* const result = static_cast<bytea*>(palloc(VARHDRSZ + header_size + size));
  SET_VARSIZE(result, VARHDRSZ + header_size + size);
  char* at = VARDATA(result);
  *at++ = format_version;
  *at++ = static_cast<char>(major_version);
  *at++ = static_cast<char>(encoding);
  const uint32 sum = pg_hton32(checksum(half, encoding, bytes, size));
  memcpy(at, &sum, sizeof sum);
  if (size > 0) memcpy(at + sizeof sum, bytes, size);
  return result;
}

/// Runs `body` with settings under which an output function's text reads the same everywhere.
template <typename F>
char* with_portable_output(F&& body) {
  const bool pinned =
      DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES && extra_float_digits > 0;
  if (pinned) return body();
  const int nest_level = NewGUCNestLevel();
  pg::set_for_nest_level("datestyle", "ISO");
  pg::set_for_nest_level("intervalstyle", "postgres");
  pg::set_for_nest_level("extra_float_digits", "3");
  char* const text = body();
  AtEOXact_GUC(false, nest_level);
  return text;
}

[[noreturn]] void not_a_state(const AggregateHalf& half) {
  ereport(ERROR, errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
          errmsg("not a state of %s", half.name),
          errhint("Combine what order_proc.partial of the same aggregate returned."));
}

std::string_view payload(const AggregateHalf& half, const bytea* bytes, Encoding& encoding) {
  const std::string_view all = pg::view(bytes);
  if (all.size() < header_size) not_a_state(half);
  if (all[0] != format_version || all[1] != static_cast<char>(major_version))
    ereport(
        ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
        errmsg("a state of %s has format %d of PostgreSQL %d", half.name,
               static_cast<uint8>(all[0]), static_cast<uint8>(all[1])),
        errdetail("This server reads format %d of PostgreSQL %d.", format_version, major_version),
        errhint("Let all shards and the coordinator run one major version."));
  encoding = static_cast<Encoding>(all[2]);
  uint32 sum;
  memcpy(&sum, all.data() + 3, sizeof sum);
  const std::string_view rest = all.substr(header_size);
  if ((encoding != half.encoding && encoding != Encoding::null) ||
      pg_ntoh32(sum) != checksum(half, encoding, rest.data(), rest.size()))
    not_a_state(half);
  return rest;
}

NullableDatum deserialize(AggregateHalf* half, std::string_view bytes, fmNodePtr aggregate) {
  LOCAL_FCINFO(call, 2);
  InitFunctionCallInfoData(*call, &half->codec, 2, InvalidOid, aggregate, nullptr);
  call->args[0] = {
      PointerGetDatum(cstring_to_text_with_len(bytes.data(), static_cast<int>(bytes.size()))),
      false};
  call->args[1] = {0, false};
  const Datum value = FunctionCallInvoke(call);
  return {value, call->isnull};
}

Datum receive(AggregateHalf* half, std::string_view bytes) {
  StringInfoData buffer;
  initStringInfo(&buffer);
  appendBinaryStringInfo(&buffer, bytes.data(), static_cast<int>(bytes.size()));
  const Datum value = ReceiveFunctionCall(&half->codec, &buffer, half->io_parameter, -1);
  if (buffer.cursor != buffer.len) not_a_state(*half);
  return value;
}

}  // namespace

AggregateState* new_state(AggregateHalf* half, MemoryContext group) {
  auto* const state =
      static_cast<AggregateState*>(MemoryContextAlloc(group, sizeof(AggregateState)));
  state->half = half;
  state->null = state->none = half->initial.isnull;
  state->value = half->initial.isnull || half->state_by_value
                     ? half->initial.value
                     : keep(*half, half->initial.value, group);
  return state;
}

void advance(AggregateState* state, fmNodePtr aggregate, MemoryContext group) {
  AggregateHalf& half = *state->half;
  FunctionCallInfoBaseData& call = *half.call;
  if (half.step.fn_strict) {
    for (int i = 1; i < call.nargs; ++i)
      if (call.args[i].isnull) return;
    if (state->none) {
      state->value = keep(half, call.args[1].value, group);
      state->null = state->none = false;
      return;
    }
    if (state->null) return;
  }
  call.context = aggregate;
  call.args[0] = {state->value, state->null};
  call.isnull = false;
  Datum value = FunctionCallInvoke(&call);
  if (!half.state_by_value && DatumGetPointer(value) != DatumGetPointer(state->value)) {
    if (!call.isnull) value = keep(half, value, group);
    if (!state->null) forget(half, state->value);
  }
  state->value = call.isnull ? 0 : value;
  state->null = call.isnull;
  state->none = false;
}

bytea* encode(AggregateState* state, fmNodePtr aggregate) {
  AggregateHalf& half = *state->half;
  if (state->null)
    return half.initial.isnull ? nullptr : with_header(half, Encoding::null, nullptr, 0);
  if (half.encoding == Encoding::text) {
    const char* const text =
        with_portable_output([&] { return OutputFunctionCall(&half.codec, state->value); });
    return with_header(half, half.encoding, text, strlen(text));
  }
  LOCAL_FCINFO(call, 1);
  InitFunctionCallInfoData(*call, &half.codec, 1, InvalidOid,
                           half.encoding == Encoding::serialized ? aggregate : nullptr, nullptr);
  call->args[0] = {state->value, false};
  const Datum bytes = FunctionCallInvoke(call);
  if (call->isnull)
    return half.initial.isnull ? nullptr : with_header(half, Encoding::null, nullptr, 0);
  const std::string_view view = pg::view(DatumGetByteaPP(bytes));
  return with_header(half, half.encoding, view.data(), view.size());
}

NullableDatum decode(AggregateHalf* half, const bytea* bytes, fmNodePtr aggregate) {
  if (bytes == nullptr) return half->initial;
  Encoding encoding;
  const std::string_view rest = payload(*half, bytes, encoding);
  switch (encoding) {
    case Encoding::null:
      return {0, true};
    case Encoding::serialized:
      return deserialize(half, rest, aggregate);
    case Encoding::binary:
      return {receive(half, rest), false};
    case Encoding::text:
      break;
  }
  char* const text = pnstrdup(rest.data(), rest.size());
  (void)pg_verifymbstr(text, static_cast<int>(rest.size()), false);
  return {InputFunctionCall(&half->codec, text, half->io_parameter, -1), false};
}

NullableDatum finalize(AggregateState* state, fmNodePtr aggregate) {
  AggregateHalf& half = *state->half;
  const Datum value =
      state->null ? 0 : MakeExpandedObjectReadOnly(state->value, state->null, half.state_length);
  if (!OidIsValid(half.final.fn_oid)) return {value, state->null};
  const bool extra_null = half.final_arguments > 1;
  if (half.final.fn_strict && (state->null || extra_null)) return {0, true};
  LOCAL_FCINFO(call, FUNC_MAX_ARGS);
  InitFunctionCallInfoData(*call, &half.final, static_cast<int16>(half.final_arguments),
                           half.call->fncollation, aggregate, nullptr);
  call->args[0] = {value, state->null};
  for (int i = 1; i < half.final_arguments; ++i) call->args[i] = {0, true};
  const Datum result = FunctionCallInvoke(call);
  return {result, call->isnull};
}

}  // namespace order_proc
