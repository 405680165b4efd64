// Lines of an import: splitting CSV, reading numbers. Never allocates, never throws; every byte
// sequence has a defined answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace order_proc::core {

enum class NumberFault { none, malformed, out_of_range, not_a_number };

struct ParsedNumber {
  NumberFault fault;
  std::int64_t value;
};

/// A decimal integer, blanks around it allowed; out_of_range beyond `least`..`most`.
ParsedNumber parse_integer(std::string_view text, std::int64_t least, std::int64_t most) noexcept;

/// A decimal number, with or without exponent, as hundredths, rounded half away from zero like
/// numeric; out_of_range from 10^16 on, not_a_number for NaN.
ParsedNumber parse_hundredths(std::string_view text) noexcept;

struct Field {
  std::string_view text;
  bool null;  ///< empty and not quoted
};

enum class SplitFault { none, bad_quoting, too_many_fields };

struct SplitResult {
  SplitFault fault;
  std::size_t count;
};

/// Splits a line of CSV (comma, double quotes, doubled inside) into `fields`. Quoted fields with
/// doubled quotes are unescaped into `scratch`, which has room for the line; other fields point
/// into the line.
SplitResult split_csv(std::string_view line, std::span<Field> fields, char* scratch) noexcept;

}  // namespace order_proc::core
