#include "pg/args.hpp"

namespace order_proc::pg {

namespace {

/// In loops over the elements of an array, of which there may be 134 million.
void serve_interrupts_at_times(std::size_t element) {
  if ((element & 0xFFFF) == 0) CHECK_FOR_INTERRUPTS();
}

/// Position, from 1, of the first NULL.
int first_null(const ArrayType* values) {
  const bits8* const bitmap = ARR_NULLBITMAP(values);
  int at = 0;
  while ((bitmap[at / 8] & (1 << (at % 8))) != 0) ++at;
  return at + 1;
}

/// The bits of a null bitmap as an array.
const bool* nulls_of(const ArrayType* values, std::size_t count) {
  if (!array_contains_nulls(const_cast<ArrayType*>(values))) return nullptr;
  auto* const nulls = static_cast<bool*>(palloc_extended(count, MCXT_ALLOC_HUGE));
  const bits8* const bitmap = ARR_NULLBITMAP(values);
  for (std::size_t i = 0; i < count; ++i) {
    serve_interrupts_at_times(i);
    nulls[i] = (bitmap[i / 8] & (1 << (i % 8))) == 0;
  }
  return nulls;
}

std::size_t count_of(const ArrayType* values) {
  return static_cast<std::size_t>(ArrayGetNItems(ARR_NDIM(values), ARR_DIMS(values)));
}

template <typename T>
T* allocate(std::size_t count) {
  return static_cast<T*>(palloc_extended(std::max<Size>(count, 1) * sizeof(T), MCXT_ALLOC_HUGE));
}

/// Arrays store no value for a NULL: spread them out so that element i is at i.
template <typename T>
Elements<T> spread(const ArrayType* values) {
  const std::size_t count = count_of(values);
  const bool* const nulls = nulls_of(values, count);
  const auto* stored = reinterpret_cast<const T*>(ARR_DATA_PTR(values));
  if (nulls == nullptr) return {{stored, count}, nullptr};
  T* const elements = allocate<T>(count);
  for (std::size_t i = 0; i < count; ++i) {
    serve_interrupts_at_times(i);
    elements[i] = nulls[i] ? T{} : *stored++;
  }
  return {{elements, count}, nulls};
}

}  // namespace

ArrayType* Args::nullable_array(int i, const char* name) const {
  ArrayType* const values = DatumGetArrayTypeP(datum(i, name));
  // To read and decompress a large one takes a while, and that of the next will.
  CHECK_FOR_INTERRUPTS();
  if (ARR_NDIM(values) > 1)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("%s must be a one-dimensional array", name),
            errdetail("It has %d dimensions.", ARR_NDIM(values)),
            errhint("Give one value per item."));
  return values;
}

ArrayType* Args::array(int i, const char* name) const {
  ArrayType* const values = nullable_array(i, name);
  if (array_contains_nulls(values))
    ereport(
        ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain NULL", name),
        errdetail("Element %d is NULL.", first_null(values)), errhint("Give one value per item."));
  return values;
}

Elements<int64> Args::get_int64_elements(int i, const char* name) const {
  return spread<int64>(nullable_array(i, name));
}

Elements<int32> Args::get_int32_elements(int i, const char* name) const {
  return spread<int32>(nullable_array(i, name));
}

Elements<Datum> Args::get_numeric_elements(int i, const char* name) const {
  const ArrayType* const values = nullable_array(i, name);
  const std::size_t count = count_of(values);
  const bool* const nulls = nulls_of(values, count);
  Datum* const elements = allocate<Datum>(count);
  const char* at = ARR_DATA_PTR(values);
  for (std::size_t n = 0; n < count; ++n) {
    serve_interrupts_at_times(n);
    elements[n] = PointerGetDatum(at);
    if (nulls != nullptr && nulls[n]) continue;
    at = att_addlength_pointer(at, -1, at);
    at = reinterpret_cast<const char*>(att_align_nominal(at, TYPALIGN_INT));
  }
  return {{elements, count}, nulls};
}

std::span<Datum> Args::get_numerics(int i, const char* name) const {
  (void)array(i, name);
  const Elements<Datum> elements = get_numeric_elements(i, name);
  return {const_cast<Datum*>(elements.values.data()), elements.size()};
}

}  // namespace order_proc::pg
