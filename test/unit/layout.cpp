// Versions of the store's layout: parsing, order, and what each layout has.
#include "core/layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <random>
#include <string>

namespace order_proc::core {
namespace {

TEST(Layout, EveryKnownLayoutHasItsIndex) {
  for (std::size_t i = 0; i < layouts.size(); ++i) EXPECT_EQ(layout_index(layouts[i]), i);
}

TEST(Layout, NothingElseIsKnown) {
  using namespace std::string_view_literals;
  for (const auto text :
       {""sv, "1"sv, "1."sv, "0.9"sv, "1.40"sv, "01.4"sv, "1.4 "sv, " 1.4"sv, "1.4\0"sv, "2.0"sv})
    EXPECT_EQ(layout_index(text), std::nullopt) << text;
}

TEST(Layout, LayoutsAreVersionsInAscendingOrder) {
  for (const auto version : layouts) ASSERT_TRUE(parse_version(version)) << version;
  for (std::size_t i = 1; i < layouts.size(); ++i)
    EXPECT_LT(*parse_version(layouts[i - 1]), *parse_version(layouts[i]));
}

TEST(Layout, HasWhatItsMigrationsMade) {
  EXPECT_FALSE(Layout{*layout_index("1.1")}.has_notes());
  EXPECT_TRUE(Layout{*layout_index("1.2")}.has_notes());
  for (const auto version : layouts) {
    const Layout layout{*layout_index(version)};
    EXPECT_TRUE(layout.has_name() || layout.has_name_parts()) << version;
    EXPECT_EQ(layout.has_name() && layout.has_name_parts(), version == "1.3") << version;
  }
}

TEST(ParseVersion, ReadsMajorAndMinor) {
  EXPECT_EQ(parse_version("0.0"), (Version{0, 0}));
  EXPECT_EQ(parse_version("1.4"), (Version{1, 4}));
  EXPECT_EQ(parse_version("12.345"), (Version{12, 345}));
  EXPECT_EQ(parse_version("2147483647.2147483647"), (Version{INT_MAX, INT_MAX}));
  EXPECT_EQ(parse_version("001.004"), (Version{1, 4}));
}

TEST(ParseVersion, ComparesAsNumbersNotAsText) {
  EXPECT_LT(*parse_version("1.9"), *parse_version("1.10"));
  EXPECT_LT(*parse_version("9.9"), *parse_version("10.0"));
  EXPECT_LT(*parse_version("1.99"), *parse_version("2.0"));
  EXPECT_EQ(*parse_version("1.04"), *parse_version("1.4"));
}

TEST(ParseVersion, RefusesJunk) {
  using namespace std::string_view_literals;
  for (const auto text : {""sv,
                          "."sv,
                          "1"sv,
                          "1."sv,
                          ".4"sv,
                          "1.4."sv,
                          "1.4.0"sv,
                          "1..4"sv,
                          " 1.4"sv,
                          "1.4 "sv,
                          "1 .4"sv,
                          "1. 4"sv,
                          "1.4\n"sv,
                          "1.4\0"sv,
                          "\0"sv,
                          "-1.4"sv,
                          "1.-4"sv,
                          "+1.4"sv,
                          "1.+4"sv,
                          "1,4"sv,
                          "0x1.4"sv,
                          "1.4a"sv,
                          "v1.4"sv,
                          "1e3.4"sv,
                          "one.four"sv,
                          "\xD9\xA1.\xD9\xA4"sv,
                          "2147483648.0"sv,
                          "0.2147483648"sv,
                          "99999999999999999999999999.0"sv,
                          "1.99999999999999999999999999"sv})
    EXPECT_EQ(parse_version(text), std::nullopt) << text;
}

TEST(ParseVersion, ReadsNotBeyondTheView) {
  const std::string text = "1.45";
  EXPECT_EQ(parse_version(std::string_view(text).substr(0, 3)), (Version{1, 4}));
  EXPECT_EQ(parse_version(std::string_view(text).substr(0, 2)), std::nullopt);
  EXPECT_EQ(parse_version(std::string_view()), std::nullopt);
}

/// The grammar, digit by digit.
bool well_formed(std::string_view text) {
  const auto dot = text.find('.');
  if (dot == std::string_view::npos) return false;
  const auto digits = [](std::string_view part) {
    return !part.empty() &&
           std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  return digits(text.substr(0, dot)) && digits(text.substr(dot + 1));
}

TEST(ParseVersion, AcceptsExactlyItsGrammar) {
  std::mt19937 random(1);
  constexpr std::string_view alphabet = "0123456789..... +-x";
  for (int round = 0; round < 200'000; ++round) {
    // Exactly as large as the text: the sanitizer sees a byte read behind it.
    std::string text(random() % 7, '\0');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    ASSERT_EQ(parse_version(text).has_value(), well_formed(text)) << '"' << text << '"';
  }
}

}  // namespace
}  // namespace order_proc::core
