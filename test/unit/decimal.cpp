// Numbers as text: compared with snprintf, and never longer than promised.
#include "core/decimal.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <random>
#include <string>

namespace order_proc::core {
namespace {

/// What `write` makes of `value`, in a buffer of the promised size: the sanitizer sees a byte more.
template <typename Write>
std::string written(Write write, std::int64_t value) {
  const std::unique_ptr<char[]> room(new char[max_number_length]);
  char* const end = write(room.get(), value);
  return {room.get(), end};
}

std::string int64_text(std::int64_t value) {
  return written([](char* out, std::int64_t v) { return write_int64(out, v); }, value);
}

std::string hundredths_text(std::int64_t value) {
  return written([](char* out, std::int64_t v) { return write_hundredths(out, v); }, value);
}

std::string int64_reference(std::int64_t value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%" PRId64, value);
  return text.data();
}

std::string hundredths_reference(std::int64_t value) {
  const auto magnitude =
      value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%s%" PRIu64 ".%02" PRIu64, value < 0 ? "-" : "",
                magnitude / 100, magnitude % 100);
  return text.data();
}

void expect_same(std::int64_t value) {
  ASSERT_EQ(int64_text(value), int64_reference(value));
  ASSERT_EQ(hundredths_text(value), hundredths_reference(value));
  ASSERT_LE(hundredths_text(value).size(), static_cast<std::size_t>(max_number_length));
}

TEST(Decimal, Examples) {
  EXPECT_EQ(hundredths_text(0), "0.00");
  EXPECT_EQ(hundredths_text(1), "0.01");
  EXPECT_EQ(hundredths_text(10), "0.10");
  EXPECT_EQ(hundredths_text(99), "0.99");
  EXPECT_EQ(hundredths_text(100), "1.00");
  EXPECT_EQ(hundredths_text(250), "2.50");
  EXPECT_EQ(hundredths_text(-5), "-0.05");
  EXPECT_EQ(hundredths_text(-100), "-1.00");
}

TEST(Decimal, EndsOfTheColumns) {
  EXPECT_EQ(hundredths_text(9999999999), "99999999.99");      // numeric(10,2)
  EXPECT_EQ(hundredths_text(999999999999), "9999999999.99");  // numeric(12,2)
}

TEST(Decimal, EndsOfTheType) {
  EXPECT_EQ(hundredths_text(INT64_MAX), "92233720368547758.07");
  EXPECT_EQ(hundredths_text(INT64_MIN), "-92233720368547758.08");
  EXPECT_EQ(int64_text(INT64_MAX), "9223372036854775807");
  EXPECT_EQ(int64_text(INT64_MIN), "-9223372036854775808");
}

TEST(Decimal, AroundEveryPowerOfTenAndTwo) {
  const auto around = [](std::int64_t value) {
    for (std::int64_t step = -2; step <= 2; ++step) {
      const auto near = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) +
                                                  static_cast<std::uint64_t>(step));
      expect_same(near);
      expect_same(static_cast<std::int64_t>(0 - static_cast<std::uint64_t>(near)));
    }
  };
  std::int64_t power = 1;
  for (int i = 0; i <= 18; ++i) {
    around(power);
    if (i < 18) power *= 10;
  }
  for (int bit = 0; bit < 64; ++bit) around(static_cast<std::int64_t>(std::uint64_t{1} << bit));
}

TEST(Decimal, RandomNumbersOfEverySize) {
  std::mt19937_64 random(6);
  for (int round = 0; round < 200'000; ++round)
    ASSERT_NO_FATAL_FAILURE(expect_same(static_cast<std::int64_t>(random()) >> (random() % 64)));
}

}  // namespace
}  // namespace order_proc::core
