// Composite results, formed by the type as the catalog has it: a column is found by its name, so a
// newer library serves the type as an older script made it.
#pragma once

#include "pg/spi.hpp"

namespace order_proc::pg {

/// The row type that a function returns and where its columns come from. Declare it static, one for
/// each function: it is filled at the first call of a backend and again when function or type
/// changed. (Not in fn_extra: a function in FROM gets a new one at each execution.)
class RecordType {
 public:
  static constexpr std::size_t most_columns = 16;

  /// `names`: the fields that the function can give, by position in the values handed to form().
  constexpr explicit RecordType(std::span<const std::string_view> names) : names_(names) {}

  /// Call first, on every call of the function.
  void prepare(FunctionCallInfo fcinfo);

  /// Fields that the type lacks are left out; columns that the function does not know are NULL.
  Datum form(const Datum* values, const bool* nulls) const;

 private:
  std::span<const std::string_view> names_;
  Oid function_ = InvalidOid;
  Oid type_ = InvalidOid;
  uint64 identifier_ = 0;  ///< of the type's descriptor, as the type cache counts them
  TupleDesc descriptor_ = nullptr;
  std::array<int, most_columns> source_{};  ///< for each column the field, -1 for none
};

}  // namespace order_proc::pg
