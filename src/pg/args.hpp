// Arguments of SQL functions by type. A NULL where a value is needed is 22004 with the argument's
// name.
#pragma once

#include "pg/error.hpp"

namespace order_proc::pg {

inline std::string_view view(const text* value) {
  return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

/// A text that may be NULL, detoasted, in the caller's memory context.
struct Text {
  text* value = nullptr;
  explicit operator bool() const { return value != nullptr; }
  std::string_view view() const { return pg::view(value); }
  Datum datum() const { return PointerGetDatum(value); }
};

/// The elements of an array; some may be NULL.
template <typename T>
struct Elements {
  std::span<const T> values;
  const bool* nulls;  ///< null when no element is

  std::size_t size() const { return values.size(); }
  bool null(std::size_t i) const { return nulls != nullptr && nulls[i]; }
};

class Args {
 public:
  explicit Args(FunctionCallInfo fcinfo) : fcinfo_(fcinfo) {}

  bool null(int i) const { return fcinfo_->args[i].isnull; }

  Datum datum(int i, const char* name) const {
    if (null(i)) null_argument(name);
    return fcinfo_->args[i].value;
  }
  int64 get_int64(int i, const char* name) const { return DatumGetInt64(datum(i, name)); }
  int32 get_int32(int i, const char* name) const { return DatumGetInt32(datum(i, name)); }
  Oid get_oid(int i, const char* name) const { return DatumGetObjectId(datum(i, name)); }
  Text get_text(int i, const char* name) const { return {DatumGetTextPP(datum(i, name))}; }

  std::optional<int64> find_int64(int i) const {
    return null(i) ? std::nullopt : std::optional(DatumGetInt64(fcinfo_->args[i].value));
  }
  Text find_text(int i) const {
    return null(i) ? Text{} : Text{DatumGetTextPP(fcinfo_->args[i].value)};
  }

  /// One-dimensional (any lower bound) or empty arrays without NULLs; 22004 and 22023 otherwise.
  std::span<const int64> get_int64s(int i, const char* name) const { return fixed<int64>(i, name); }
  std::span<const int32> get_int32s(int i, const char* name) const { return fixed<int32>(i, name); }
  /// The elements point into the array.
  std::span<Datum> get_numerics(int i, const char* name) const;

  /// The same, NULL elements allowed.
  Elements<int64> get_int64_elements(int i, const char* name) const;
  Elements<int32> get_int32_elements(int i, const char* name) const;
  Elements<Datum> get_numeric_elements(int i, const char* name) const;

 private:
  ArrayType* array(int i, const char* name) const;
  ArrayType* nullable_array(int i, const char* name) const;

  template <typename T>
  std::span<const T> fixed(int i, const char* name) const {
    ArrayType* const values = array(i, name);
    return {reinterpret_cast<const T*>(ARR_DATA_PTR(values)),
            static_cast<std::size_t>(ArrayGetNItems(ARR_NDIM(values), ARR_DIMS(values)))};
  }

  FunctionCallInfo fcinfo_;
};

}  // namespace order_proc::pg
