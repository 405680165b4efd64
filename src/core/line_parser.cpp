#include "core/line_parser.hpp"

#include <algorithm>
#include <limits>

namespace order_proc::core {

namespace {

constexpr bool is_blank(char c) noexcept {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

constexpr bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Takes a sign off the front.
bool take_sign(std::string_view& text) noexcept {
  if (text.empty() || (text.front() != '-' && text.front() != '+')) return false;
  const bool negative = text.front() == '-';
  text.remove_prefix(1);
  return negative;
}

bool equals_ignoring_case(std::string_view text, std::string_view lower) noexcept {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

/// Digits around a point, as they stand: sign and exponent are taken off.
struct Decimal {
  std::string_view whole;
  std::string_view fraction;
  int exponent;
};

std::string_view take_digits(std::string_view& text) noexcept {
  std::size_t count = 0;
  while (count < text.size() && is_digit(text[count])) ++count;
  const std::string_view digits = text.substr(0, count);
  text.remove_prefix(count);
  return digits;
}

/// False when `text` is no exponent; beyond +-100000 it is cut to that, far outside all ranges.
bool read_exponent(std::string_view text, int& exponent) noexcept {
  constexpr int most = 100000;
  const bool negative = take_sign(text);
  if (text.empty()) return false;
  int value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return false;
    value = std::min(most, value * 10 + (c - '0'));
  }
  exponent = negative ? -value : value;
  return true;
}

bool read_decimal(std::string_view text, Decimal& decimal) noexcept {
  decimal = {take_digits(text), {}, 0};
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    decimal.fraction = take_digits(text);
  }
  if (decimal.whole.empty() && decimal.fraction.empty()) return false;
  if (text.empty()) return true;
  if (text.front() != 'e' && text.front() != 'E') return false;
  text.remove_prefix(1);
  return read_exponent(text, decimal.exponent);
}

}  // namespace

ParsedNumber parse_integer(std::string_view text, std::int64_t least, std::int64_t most) noexcept {
  text = trim(text);
  const bool negative = take_sign(text);
  if (text.empty()) return {NumberFault::malformed, 0};
  // Summed up below zero, where the range is larger by one.
  std::int64_t sum = 0;
  bool overflow = false;
  for (const char c : text) {
    if (!is_digit(c)) return {NumberFault::malformed, 0};
    overflow |= __builtin_mul_overflow(sum, 10, &sum) || __builtin_sub_overflow(sum, c - '0', &sum);
  }
  if (overflow || (!negative && sum == std::numeric_limits<std::int64_t>::min()))
    return {NumberFault::out_of_range, 0};
  const std::int64_t value = negative ? sum : -sum;
  if (value < least || value > most) return {NumberFault::out_of_range, value};
  return {NumberFault::none, value};
}

ParsedNumber parse_hundredths(std::string_view text) noexcept {
  constexpr std::int64_t limit = 1000000000000000000;  // 10^16 in hundredths
  text = trim(text);
  if (equals_ignoring_case(text, "nan")) return {NumberFault::not_a_number, 0};
  const bool negative = take_sign(text);
  if (equals_ignoring_case(text, "infinity") || equals_ignoring_case(text, "inf"))
    return {NumberFault::out_of_range, negative ? -1 : 1};
  Decimal decimal{};
  if (!read_decimal(text, decimal)) return {NumberFault::malformed, 0};
  // Digit i stands for 10^(power - i); hundredths take those down to 10^-2, and one more decides
  // the rounding.
  const auto whole = static_cast<std::int64_t>(decimal.whole.size());
  const auto digits = whole + static_cast<std::int64_t>(decimal.fraction.size());
  const std::int64_t taken = whole + decimal.exponent + 2;
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < taken; ++i) {
    if (i >= digits && sum == 0) break;
    const char c = i >= digits ? '0'
                   : i < whole ? decimal.whole[static_cast<std::size_t>(i)]
                               : decimal.fraction[static_cast<std::size_t>(i - whole)];
    // Asked before multiplying: ten times the limit does not fit.
    if (sum > (limit - 1) / 10) return {NumberFault::out_of_range, negative ? -1 : 1};
    sum = sum * 10 + (c - '0');
  }
  if (taken >= 0 && taken < digits) {
    const char next = taken < whole ? decimal.whole[static_cast<std::size_t>(taken)]
                                    : decimal.fraction[static_cast<std::size_t>(taken - whole)];
    if (next >= '5') ++sum;
  }
  return {NumberFault::none, negative ? -sum : sum};
}

namespace {

/// What stands before the next comma, or all; moves behind the comma.
Field take_plain(std::string_view& rest, bool& more) noexcept {
  const std::size_t end = std::min(rest.find(','), rest.size());
  const std::string_view text = rest.substr(0, end);
  more = end < rest.size();
  rest.remove_prefix(more ? end + 1 : end);
  return {text, text.empty()};
}

/// A quoted field; false when the quote does not end before a comma or the end.
bool take_quoted(std::string_view& rest, Field& field, bool& more, char*& scratch) noexcept {
  char* const start = scratch;
  std::size_t i = 1;
  for (; i < rest.size(); ++i) {
    if (rest[i] != '"') {
      *scratch++ = rest[i];
    } else if (i + 1 < rest.size() && rest[i + 1] == '"') {
      *scratch++ = '"';
      ++i;
    } else {
      break;
    }
  }
  if (i >= rest.size()) return false;
  field = {std::string_view(start, static_cast<std::size_t>(scratch - start)), false};
  rest.remove_prefix(i + 1);
  more = !rest.empty();
  if (more && rest.front() != ',') return false;
  if (more) rest.remove_prefix(1);
  return true;
}

}  // namespace

SplitResult split_csv(std::string_view line, std::span<Field> fields, char* scratch) noexcept {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  std::size_t count = 0;
  for (bool more = true; more; ++count) {
    if (count == fields.size()) return {SplitFault::too_many_fields, count};
    if (!line.empty() && line.front() == '"') {
      if (!take_quoted(line, fields[count], more, scratch)) return {SplitFault::bad_quoting, count};
    } else {
      fields[count] = take_plain(line, more);
      if (fields[count].text.find('"') != std::string_view::npos)
        return {SplitFault::bad_quoting, count};
    }
  }
  return {SplitFault::none, count};
}

}  // namespace order_proc::core
