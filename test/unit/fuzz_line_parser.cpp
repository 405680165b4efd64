// libFuzzer: whatever bytes come, the parser of import lines answers, reads only what it was given
// and keeps what it promises. cmake -DFUZZ=ON with clang; then build/fuzz_line_parser
// -max_total_time=600 CORPUS test/unit/corpus
#include "core/line_parser.hpp"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

namespace {

using namespace order_proc::core;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_numbers(std::string_view text) {
  const ParsedNumber wide = parse_integer(text, INT64_MIN, INT64_MAX);
  const ParsedNumber narrow = parse_integer(text, INT32_MIN, INT32_MAX);
  require(wide.fault != NumberFault::not_a_number);
  if (narrow.fault == NumberFault::none)
    require(wide.fault == NumberFault::none && wide.value == narrow.value);
  if (wide.fault == NumberFault::malformed) require(narrow.fault == NumberFault::malformed);
  const ParsedNumber amount = parse_hundredths(text);
  constexpr std::int64_t most = 1000000000000000000;
  if (amount.fault == NumberFault::none) require(amount.value >= -most && amount.value <= most);
  // An integer is an amount, too.
  if (wide.fault == NumberFault::none && wide.value > -most / 100 && wide.value < most / 100)
    require(amount.fault == NumberFault::none && amount.value == wide.value * 100);
  if (amount.fault == NumberFault::malformed) require(wide.fault == NumberFault::malformed);
}

/// A field as CSV that gives it back.
void append_quoted(std::string& line, const Field& field) {
  if (field.null) return;
  line += '"';
  for (const char c : field.text) line.append(c == '"' ? 2 : 1, c);
  line += '"';
}

void check_split(std::string_view line) {
  std::array<Field, 7> fields;
  const std::unique_ptr<char[]> scratch(new char[line.size()]);
  const auto [fault, count] = split_csv(line, fields, scratch.get());
  require(count <= fields.size());
  if (fault != SplitFault::none) return;
  require(count >= 1);
  std::string joined;
  for (std::size_t i = 0; i < count; ++i) {
    require(!fields[i].null || fields[i].text.empty());
    check_numbers(fields[i].text);
    if (i > 0) joined += ',';
    append_quoted(joined, fields[i]);
  }
  std::array<Field, 7> again;
  const std::unique_ptr<char[]> more(new char[joined.size()]);
  const auto [second_fault, second_count] = split_csv(joined, again, more.get());
  require(second_fault == SplitFault::none && second_count == count);
  for (std::size_t i = 0; i < count; ++i)
    require(again[i].text == fields[i].text && again[i].null == fields[i].null);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  check_numbers(text);
  check_split(text);
  return 0;
}
