// Splitting names: the examples, the edges, and that joining by one blank gives every name back.
#include "core/name.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace order_proc::core {
namespace {

std::string joined(const NameParts& parts) {
  std::string name{parts.first};
  if (parts.last) name.append(" ").append(*parts.last);
  return name;
}

struct Example {
  std::string_view name;
  std::string_view first;
  std::optional<std::string_view> last;
};

constexpr Example examples[]{
    {"Ana de la Cruz", "Ana", "de la Cruz"},
    {"Ana Cruz", "Ana", "Cruz"},
    {"Ana", "Ana", std::nullopt},
    {"A B", "A", "B"},
    // Leading blanks belong to the first part.
    {" Ana", " Ana", std::nullopt},
    {"  Ana Cruz", "  Ana", "Cruz"},
    // The blanks beyond the one that splits belong to the last part.
    {"Ana  Cruz", "Ana", " Cruz"},
    {"Ana   ", "Ana", "  "},
    // A blank at the end splits, too: the last part is empty, not missing.
    {"Ana ", "Ana", ""},
    {"Ana Cruz ", "Ana", "Cruz "},
    // Nothing but blanks has no first part to end.
    {"", "", std::nullopt},
    {" ", " ", std::nullopt},
    {"    ", "    ", std::nullopt},
    // Only U+0020 is a blank: no tab, no line feed, no no-break space.
    {"Ana\tCruz", "Ana\tCruz", std::nullopt},
    {"Ana\nde Cruz", "Ana\nde", "Cruz"},
    {"Ana\u00A0Cruz", "Ana\u00A0Cruz", std::nullopt},
    {"\u5F20 \u4F1F", "\u5F20", "\u4F1F"},
};

TEST(SplitNames, Examples) {
  for (const auto& [name, first, last] : examples) {
    const NameParts parts = split_name(name);
    EXPECT_EQ(parts.first, first) << '"' << name << '"';
    EXPECT_EQ(parts.last, last) << '"' << name << '"';
    EXPECT_EQ(joined(parts), name);
  }
}

TEST(SplitNames, PointIntoTheName) {
  const std::string name = "Ana de la Cruz";
  const NameParts parts = split_name(name);
  EXPECT_EQ(parts.first.data(), name.data());
  EXPECT_EQ(parts.last->data() + parts.last->size(), name.data() + name.size());
}

TEST(SplitNames, MayBeUsedAtCompileTime) {
  static_assert(split_name("Ana de la Cruz").first == "Ana");
  static_assert(*split_name("Ana de la Cruz").last == "de la Cruz");
}

/// What makes a migration there and back give every name back.
void expect_inverse(const std::string& name) {
  const NameParts parts = split_name(name);
  ASSERT_EQ(joined(parts), name);
  // The first part ends at the first blank behind a non-blank: it holds no such blank itself.
  ASSERT_EQ(split_name(parts.first).last, std::nullopt) << '"' << name << '"';
  const bool has_non_blank = parts.first.find_first_not_of(' ') != std::string_view::npos;
  ASSERT_TRUE(has_non_blank || !parts.last) << '"' << name << '"';
}

TEST(SplitNames, JoinedByOneBlankGiveTheNameBack) {
  std::mt19937 random(4);
  constexpr std::string_view alphabet = "   ab\t";
  for (int round = 0; round < 200'000; ++round) {
    std::string name(random() % 12, '\0');
    for (char& c : name) c = alphabet[random() % alphabet.size()];
    ASSERT_NO_FATAL_FAILURE(expect_inverse(name));
  }
}

TEST(SplitNames, GiveBackAnyBytes) {
  std::mt19937 random(5);
  for (int round = 0; round < 50'000; ++round) {
    std::string name(random() % 64, '\0');
    for (char& c : name) c = static_cast<char>(random());
    ASSERT_NO_FATAL_FAILURE(expect_inverse(name));
  }
}

TEST(SplitNames, TakeAMegabyte) {
  expect_inverse(std::string(1 << 20, ' '));
  expect_inverse(std::string(1 << 20, 'x'));
  expect_inverse(std::string(1 << 20, ' ') + "x " + std::string(1 << 20, ' '));
}

}  // namespace
}  // namespace order_proc::core
