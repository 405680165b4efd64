// The parser of import lines: numbers against a wide reference, CSV there and back, garbage.
#include "core/line_parser.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

namespace order_proc::core {

void PrintTo(const ParsedNumber& number, std::ostream* out) {
  *out << "fault " << static_cast<int>(number.fault) << ", value " << number.value;
}

namespace {

using Wide = __int128;

constexpr std::int64_t int64_least = INT64_MIN;
constexpr std::int64_t int64_most = INT64_MAX;
constexpr std::string_view blanks = " \t\n\v\f\r";

ParsedNumber integer(std::string_view text, std::int64_t least = int64_least,
                     std::int64_t most = int64_most) {
  return parse_integer(text, least, most);
}

void expect_integer(std::string_view text, std::int64_t value) {
  const ParsedNumber parsed = integer(text);
  EXPECT_EQ(parsed.fault, NumberFault::none) << text;
  EXPECT_EQ(parsed.value, value) << text;
}

void expect_hundredths(std::string_view text, std::int64_t value) {
  const ParsedNumber parsed = parse_hundredths(text);
  EXPECT_EQ(parsed.fault, NumberFault::none) << text;
  EXPECT_EQ(parsed.value, value) << text;
}

std::string digits_of(Wide value) {
  std::string text;
  do {
    text.insert(text.begin(), static_cast<char>('0' + static_cast<int>(value % 10)));
    value /= 10;
  } while (value > 0);
  return text;
}

template <typename Random>
std::string some(std::string_view letters, std::size_t most, Random& random) {
  std::string text(random() % (most + 1), ' ');
  for (char& c : text) c = letters[random() % letters.size()];
  return text;
}

TEST(Integer, Examples) {
  expect_integer("0", 0);
  expect_integer("-0", 0);
  expect_integer("+7", 7);
  expect_integer(" \t42\r\n", 42);
  expect_integer("000000000000000000000000000012", 12);
  expect_integer("9223372036854775807", int64_most);
  expect_integer("-9223372036854775808", int64_least);
}

TEST(Integer, Malformed) {
  for (const char* text :
       {"", " ", "+", "-", "--1", "+-1", "- 1", "1 1", "1.0", "1e3", "0x1", "1_0", "one", "1,",
        "\xC2\xA0"
        "1",
        "\xEF\xBC\x91"})
    EXPECT_EQ(integer(text).fault, NumberFault::malformed) << text;
  EXPECT_EQ(integer(std::string_view("1\0", 2)).fault, NumberFault::malformed);
  // Whatever its size, what holds no number is malformed rather than out of range.
  EXPECT_EQ(integer(std::string(100, '9') + "x").fault, NumberFault::malformed);
}

TEST(Integer, OutOfRange) {
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "18446744073709551616",
                           "99999999999999999999999999", "-99999999999999999999999999"})
    EXPECT_EQ(integer(text).fault, NumberFault::out_of_range) << text;
  EXPECT_EQ(integer("2147483648", INT32_MIN, INT32_MAX).fault, NumberFault::out_of_range);
  EXPECT_EQ(integer("-2147483649", INT32_MIN, INT32_MAX).fault, NumberFault::out_of_range);
  EXPECT_EQ(integer("2147483647", INT32_MIN, INT32_MAX).fault, NumberFault::none);
  EXPECT_EQ(integer("-2147483648", INT32_MIN, INT32_MAX).fault, NumberFault::none);
}

TEST(Integer, RandomOnesAgainstWideArithmetic) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200'000; ++round) {
    const Wide magnitude = static_cast<Wide>(random()) >> (random() % 64);
    const bool negative = random() % 2 == 0;
    const Wide value = negative ? -magnitude : magnitude;
    const std::string text = some(blanks, 2, random) +
                             (negative       ? "-"
                              : random() % 2 ? "+"
                                             : "") +
                             some("0", 3, random) + digits_of(magnitude) + some(blanks, 2, random);
    const bool fits = value >= int64_least && value <= int64_most;
    const ParsedNumber parsed = integer(text);
    ASSERT_EQ(parsed.fault, fits ? NumberFault::none : NumberFault::out_of_range) << text;
    if (fits) {
      ASSERT_EQ(parsed.value, static_cast<std::int64_t>(value)) << text;
    }
  }
}

TEST(Hundredths, Examples) {
  expect_hundredths("0", 0);
  expect_hundredths("1", 100);
  expect_hundredths("1.", 100);
  expect_hundredths(".5", 50);
  expect_hundredths(" +2.25 ", 225);
  expect_hundredths("-2.25", -225);
  expect_hundredths("1e2", 10000);
  expect_hundredths("1E+2", 10000);
  expect_hundredths("250e-2", 250);
  expect_hundredths("0.0000000000000000000025e21", 250);
  expect_hundredths("1e-100000000000000000000", 0);
  expect_hundredths("0e999999999999999999999", 0);
  expect_hundredths("9999999999999999.99", 999999999999999999);
}

TEST(Hundredths, RoundsHalfAwayFromZero) {
  expect_hundredths("0.004", 0);
  expect_hundredths("0.00499999999999999999999999", 0);
  expect_hundredths("0.005", 1);
  expect_hundredths("-0.004", 0);
  expect_hundredths("-0.005", -1);
  expect_hundredths("1.005", 101);
  expect_hundredths("2.675", 268);
  expect_hundredths("5e-3", 1);
  expect_hundredths("0.5e-2", 1);
  expect_hundredths("5e-4", 0);
  expect_hundredths("99999999.994", 9999999999);
  expect_hundredths("99999999.995", 10000000000);
}

TEST(Hundredths, Faults) {
  for (const char* text : {"",    " ",   ".",     "+",     "-",     "+.",   "e5",    ".e5",
                           "1e",  "1e+", "1e1.5", "1.2.3", "1,5",   "1 2",  "- 1",   "--1",
                           "0x1", "1f",  "$1",    "nanx",  "infin", "1e5x", "1_000", "infinityx"})
    EXPECT_EQ(parse_hundredths(text).fault, NumberFault::malformed) << text;
  for (const char* text : {"nan", "NaN", " NAN "})
    EXPECT_EQ(parse_hundredths(text).fault, NumberFault::not_a_number) << text;
  for (const char* text :
       {"inf", "Infinity", "+INF", "1e16", "10000000000000000", "1e1000", "1e99999999999999999999",
        "0.1e17",
        // sums that pass the end of 64 bits and come round to 0.05 or below zero
        "922337203685477580.85", "95655418670.3807691E6", "92233720368547758.08"}) {
    EXPECT_EQ(parse_hundredths(text).fault, NumberFault::out_of_range) << text;
    EXPECT_GT(parse_hundredths(text).value, 0) << text;
  }
  // The sign of what is out of range tells too small from too large.
  for (const char* text : {"-inf", "-Infinity", "-1e16", "-1e1000"}) {
    EXPECT_EQ(parse_hundredths(text).fault, NumberFault::out_of_range) << text;
    EXPECT_LT(parse_hundredths(text).value, 0) << text;
  }
}

/// digits * 10^(2 + exponent), rounded half away from zero, in 128 bits.
Wide reference_hundredths(Wide digits, int exponent) {
  int power = exponent + 2;
  for (; power > 0; --power) digits *= 10;
  if (power == 0) return digits;
  for (; power < -1; ++power) digits /= 10;
  return (digits + 5) / 10;
}

TEST(Hundredths, RandomOnesAgainstWideArithmetic) {
  std::mt19937_64 random(2);
  const Wide limit = static_cast<Wide>(1000000000000000000);
  for (int round = 0; round < 300'000; ++round) {
    const Wide digits = static_cast<Wide>(random() >> (random() % 64));
    const int scale = static_cast<int>(random() % 24);  // where the point stands
    const int exponent = static_cast<int>(random() % 20) - 10;
    std::string text = digits_of(digits);
    if (text.size() <= static_cast<std::size_t>(scale))
      text.insert(0, static_cast<std::size_t>(scale) + 1 - text.size(), '0');
    text.insert(text.size() - static_cast<std::size_t>(scale), ".");
    if (scale == 0 && random() % 2) text.pop_back();
    if (exponent != 0 || random() % 4 == 0)
      text += (random() % 2 ? "e" : "E") + std::to_string(exponent);
    const bool negative = random() % 4 == 0;
    text = some(blanks, 1, random) + (negative ? "-" : "") + text + some(blanks, 1, random);
    const Wide expected = reference_hundredths(digits, exponent - scale);
    const ParsedNumber parsed = parse_hundredths(text);
    if (expected > limit) {
      ASSERT_EQ(parsed.fault, NumberFault::out_of_range) << text;
    } else if (expected < limit) {
      ASSERT_EQ(parsed.fault, NumberFault::none) << text;
      ASSERT_EQ(parsed.value, static_cast<std::int64_t>(negative ? -expected : expected)) << text;
    }
  }
}

/// Splits a line that has exactly its own room, so that the sanitizer sees a byte more.
struct Split {
  explicit Split(std::string_view text, std::size_t room = 7)
      : line(new char[text.size()]), scratch(new char[text.size()]), fields(room) {
    text.copy(line.get(), text.size());
    result = split_csv({line.get(), text.size()}, fields, scratch.get());
  }
  std::unique_ptr<char[]> line;
  std::unique_ptr<char[]> scratch;
  std::vector<Field> fields;
  SplitResult result;
};

void expect_split(std::string_view line, const std::vector<std::string>& expected) {
  const Split split(line);
  ASSERT_EQ(split.result.fault, SplitFault::none) << line;
  ASSERT_EQ(split.result.count, expected.size()) << line;
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(split.fields[i].text, expected[i]);
}

TEST(Split, Examples) {
  expect_split("", {""});
  expect_split(",", {"", ""});
  expect_split("a,b,c", {"a", "b", "c"});
  expect_split("a,b,c\r\n", {"a", "b", "c"});
  expect_split(" a , b ", {" a ", " b "});
  expect_split(R"("a","b,c","d""e")", {"a", "b,c", "d\"e"});
  expect_split(R"("""","","a
b")",
               {"\"", "", "a\nb"});
  expect_split("1,2,3,4,5,6,7", {"1", "2", "3", "4", "5", "6", "7"});
}

TEST(Split, NullIsEmptyAndNotQuoted) {
  const Split split(R"(,"",a)");
  ASSERT_EQ(split.result.count, 3U);
  EXPECT_TRUE(split.fields[0].null);
  EXPECT_FALSE(split.fields[1].null);
  EXPECT_FALSE(split.fields[2].null);
}

TEST(Split, Faults) {
  for (const char* line : {"\"", "\"a", "a,\"b", "\"a\"b", "\"a\" ", "a\"b", "a,b\"", "\"\"\"",
                           "\"a\"\"", " \"a\"", "\"a\"\r,b"})
    EXPECT_EQ(Split(line).result.fault, SplitFault::bad_quoting) << line;
  EXPECT_EQ(Split("1,2,3,4,5,6,7,8").result.fault, SplitFault::too_many_fields);
  EXPECT_EQ(Split("1,2,3,4,5,6,7,").result.fault, SplitFault::too_many_fields);
  EXPECT_EQ(Split("a", 0).result.fault, SplitFault::too_many_fields);
}

std::string join_csv(const std::vector<std::string>& fields, std::mt19937_64& random) {
  std::string line;
  for (const std::string& field : fields) {
    if (&field != fields.data()) line += ',';
    const bool needs = field.find_first_of(",\"\r\n") != std::string::npos;
    if (!needs && random() % 4 != 0) {
      line += field;
      continue;
    }
    line += '"';
    for (const char c : field) line += c == '"' ? "\"\"" : std::string(1, c);
    line += '"';
  }
  return line;
}

TEST(Split, TakesApartWhatWasJoined) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 100'000; ++round) {
    std::vector<std::string> fields(1 + random() % 7);
    for (std::string& field : fields)
      field = some(std::string_view("ab,\" \r\n\\\0\xC3\xA4", 11), 6, random);
    const std::string line = join_csv(fields, random) + (random() % 2 ? "\n" : "");
    ASSERT_NO_FATAL_FAILURE(expect_split(line, fields));
  }
}

/// Every field lies in the line or the scratch room.
void expect_sane(const Split& split, std::size_t size) {
  ASSERT_LE(split.result.count, split.fields.size());
  if (split.result.fault != SplitFault::none) return;
  ASSERT_GE(split.result.count, 1U);
  const auto inside = [&](std::string_view text, const char* room) {
    return text.data() >= room && text.data() + text.size() <= room + size;
  };
  for (std::size_t i = 0; i < split.result.count; ++i) {
    const std::string_view text = split.fields[i].text;
    ASSERT_TRUE(text.empty() || inside(text, split.line.get()) ||
                inside(text, split.scratch.get()));
    ASSERT_TRUE(!split.fields[i].null || text.empty());
  }
}

TEST(Garbage, HasAnAnswer) {
  std::mt19937_64 random(4);
  std::string all(256, ' ');
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
  for (int round = 0; round < 200'000; ++round) {
    const std::string text = some(
        round % 2 ? std::string_view(all) : std::string_view("019.-+eE,\" naifty\n"), 24, random);
    const std::unique_ptr<char[]> exact(new char[text.size()]);
    text.copy(exact.get(), text.size());
    const std::string_view view(exact.get(), text.size());
    const ParsedNumber small = parse_integer(view, -5, 1000);
    if (small.fault == NumberFault::none) {
      ASSERT_TRUE(small.value >= -5 && small.value <= 1000);
    }
    (void)parse_integer(view, int64_least, int64_most);
    const ParsedNumber amount = parse_hundredths(view);
    if (amount.fault == NumberFault::none) {
      ASSERT_LE(amount.value, 1000000000000000000);
      ASSERT_GE(amount.value, -1000000000000000000);
    }
    ASSERT_NO_FATAL_FAILURE(expect_sane(Split(text, random() % 9), text.size()));
  }
}

TEST(Garbage, LongOnesTakeLinearTime) {
  constexpr std::size_t size = 20'000'000;
  EXPECT_EQ(integer(std::string(size, '9')).fault, NumberFault::out_of_range);
  expect_integer(std::string(size, '0') + "1", 1);
  expect_integer(std::string(size, ' ') + "1", 1);
  EXPECT_EQ(parse_hundredths(std::string(size, '9')).fault, NumberFault::out_of_range);
  expect_hundredths(std::string(size, '0') + ".01", 1);
  expect_hundredths("." + std::string(size, '0') + "1", 0);
  expect_hundredths("1." + std::string(size, '9'), 200);
  EXPECT_EQ(parse_hundredths("1e" + std::string(size, '9')).fault, NumberFault::out_of_range);
  EXPECT_EQ(Split(std::string(size, ',')).result.fault, SplitFault::too_many_fields);
  EXPECT_EQ(Split(std::string(size, '"')).result.fault, SplitFault::none);
  EXPECT_EQ(Split('"' + std::string(size, '"')).result.fault, SplitFault::bad_quoting);
}

}  // namespace
}  // namespace order_proc::core
