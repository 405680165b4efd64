// Arrays made for parameters.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// An array of fixed-width elements without NULLs; `value(i)` gives element i.
template <typename T, typename F>
Datum make_array(std::size_t count, Oid type, F&& value) {
  if (count == 0) return PointerGetDatum(construct_empty_array(type));
  const Size size = ARR_OVERHEAD_NONULLS(1) + count * sizeof(T);
  auto* const array = static_cast<ArrayType*>(palloc0(size));
  SET_VARSIZE(array, size);
  array->ndim = 1;
  array->elemtype = type;
  ARR_DIMS(array)[0] = static_cast<int>(count);
  ARR_LBOUND(array)[0] = 1;
  auto* const elements = reinterpret_cast<T*>(ARR_DATA_PTR(array));
  for (std::size_t i = 0; i < count; ++i) elements[i] = value(i);
  return PointerGetDatum(array);
}

}  // namespace order_proc::pg
