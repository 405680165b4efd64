#include "pg/args.hpp"

namespace order_proc::pg {

namespace {

/// Position, from 1, of the first NULL.
int first_null(const ArrayType* values) {
  const bits8* const bitmap = ARR_NULLBITMAP(values);
  int at = 0;
  while ((bitmap[at / 8] & (1 << (at % 8))) != 0) ++at;
  return at + 1;
}

}  // namespace

ArrayType* Args::array(int i, const char* name) const {
  ArrayType* const values = DatumGetArrayTypeP(datum(i, name));
  if (ARR_NDIM(values) > 1)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("%s must be a one-dimensional array", name),
            errdetail("It has %d dimensions.", ARR_NDIM(values)),
            errhint("Give one value per item."));
  if (array_contains_nulls(values))
    ereport(
        ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain NULL", name),
        errdetail("Element %d is NULL.", first_null(values)), errhint("Give one value per item."));
  return values;
}

std::span<Datum> Args::get_numerics(int i, const char* name) const {
  ArrayType* const values = array(i, name);
  const auto count = static_cast<std::size_t>(ArrayGetNItems(ARR_NDIM(values), ARR_DIMS(values)));
  auto* const elements = static_cast<Datum*>(
      palloc_extended(std::max<Size>(count, 1) * sizeof(Datum), MCXT_ALLOC_HUGE));
  const char* at = ARR_DATA_PTR(values);
  for (std::size_t n = 0; n < count; ++n) {
    elements[n] = PointerGetDatum(at);
    at = att_addlength_pointer(at, -1, at);
    at = reinterpret_cast<const char*>(att_align_nominal(at, TYPALIGN_INT));
  }
  return {elements, count};
}

}  // namespace order_proc::pg
