// Composite results, formed by the descriptor that the caller expects: a column is found by its
// name, so a newer library serves the type as an older script made it.
#pragma once

#include "pg/spi.hpp"

namespace order_proc::pg {

/// A result type and where its columns come from; kept with the call site (fn_extra).
class RecordType {
 public:
  static constexpr std::size_t most_columns = 16;

  /// `names`: the fields that the function can give, by position in the values handed to form().
  static const RecordType& of(FunctionCallInfo fcinfo, std::span<const std::string_view> names);

  /// Fields that the type lacks are left out; columns that the function does not know are NULL.
  Datum form(const Datum* values, const bool* nulls) const;

 private:
  TupleDesc descriptor_;
  std::array<int, most_columns> source_;  ///< for each column the field, -1 for none
};

}  // namespace order_proc::pg
