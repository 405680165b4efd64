// Everything glue may use across a call that can longjmp: nothing here needs a destructor.
#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <variant>

extern "C" long call_postgres(const void*);

namespace {
struct Option {
  std::string_view name;
  int value;
};
constexpr std::array options{Option{"off", 0}, Option{"on", 1}};

std::optional<int> option(std::string_view name) {
  for (const auto& [known, value] : options) {
    if (known == name) return value;
  }
  return std::nullopt;
}

template <typename F>
long with_relation(F body) {
  long opened = call_postgres(nullptr);
  long result = body(opened);
  call_postgres(&opened);
  return result;
}
}  // namespace

long sample(std::span<long> values, std::string_view name) {
  std::sort(values.begin(), values.end(), [](long a, long b) { return a > b; });
  std::variant<int, long> either = values.front();
  auto pair = std::tuple{option(name), values.size()};
  return with_relation(
      [&](long opened) { return opened + call_postgres(&either) + call_postgres(&pair); });
}
