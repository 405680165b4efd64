// Numbers as text, for JSON: two-decimal amounts from an exact count of hundredths, and integers.
#pragma once

#include <charconv>
#include <cstdint>

namespace order_proc::core {

/// Longest output of write_int64 and write_hundredths: "-92233720368547758.08" and a spare.
inline constexpr int max_number_length = 22;

/// Appends `value` at `out`, which has room for max_number_length; returns the end.
inline char* write_int64(char* out, std::int64_t value) noexcept {
  return std::to_chars(out, out + max_number_length, value).ptr;
}

/// 250 -> "2.50", -5 -> "-0.05". `out` has room for max_number_length; returns the end.
inline char* write_hundredths(char* out, std::int64_t hundredths) noexcept {
  auto magnitude = static_cast<std::uint64_t>(hundredths);
  if (hundredths < 0) {
    *out++ = '-';
    magnitude = ~magnitude + 1;
  }
  out = std::to_chars(out, out + max_number_length - 1, magnitude / 100).ptr;
  const auto fraction = static_cast<int>(magnitude % 100);
  *out++ = '.';
  *out++ = static_cast<char>('0' + fraction / 10);
  *out++ = static_cast<char>('0' + fraction % 10);
  return out;
}

}  // namespace order_proc::core
