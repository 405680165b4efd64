// Customers' names in one part and in two. Splitting at one blank and joining by one blank are
// inverse, so that a migration there and back gives every name back to the letter.
#pragma once

#include <optional>
#include <string_view>

namespace order_proc::core {

struct NameParts {
  std::string_view first;
  std::optional<std::string_view> last;
};

/// first: up to the first blank (U+0020) after a non-blank; last: everything behind that blank,
/// none when there is no such blank. Leading blanks belong to first. ('Ana de la Cruz' -> 'Ana',
/// 'de la Cruz')
constexpr NameParts split_name(std::string_view name) noexcept {
  const auto start = name.find_first_not_of(' ');
  if (start == std::string_view::npos) return {name, std::nullopt};
  const auto blank = name.find(' ', start);
  if (blank == std::string_view::npos) return {name, std::nullopt};
  return {std::string_view(name.data(), blank),
          std::string_view(name.data() + blank + 1, name.size() - blank - 1)};
}

}  // namespace order_proc::core
