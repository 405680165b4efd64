// Versions of the store's layout: which there are, how they are ordered, what each has.
//
// A layout is named like the extension version that made it ("1.2"). The library knows every layout
// it can work on; functions of it must keep working on all of them.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>

namespace order_proc::core {

inline constexpr std::array<std::string_view, 10> layouts{"1.0", "1.1", "1.2", "1.3", "1.4",
                                                          "1.5", "1.6", "1.7", "1.8", "1.9"};

/// The layout with the tables of a cluster.
inline constexpr std::size_t shards_since = 7;

/// The layout with receipts of transactions over shards, and the coordinator's identity.
inline constexpr std::size_t receipts_since = 8;

/// The layout with the table of sagas.
inline constexpr std::size_t sagas_since = 8;

/// The version whose functions serve imports over shards.
inline constexpr std::size_t routed_imports_since = 8;

/// The version whose shards may decide a transaction.
inline constexpr std::size_t deciders_since = 9;

/// Index into `layouts`; nullopt for a version this library does not know.
constexpr std::optional<std::size_t> layout_index(std::string_view version) noexcept {
  for (std::size_t i = 0; i < layouts.size(); ++i)
    if (layouts[i] == version) return i;
  return std::nullopt;
}

struct Version {
  int major;
  int minor;
  friend constexpr auto operator<=>(const Version&, const Version&) noexcept = default;
};

/// "major.minor", decimal, nothing before, between or behind; nullopt for anything else.
inline std::optional<Version> parse_version(std::string_view text) noexcept {
  Version version{};
  const char* const end = text.data() + text.size();
  auto digit = [end](const char* at) { return at != end && *at >= '0' && *at <= '9'; };
  if (!digit(text.data())) return std::nullopt;
  auto [dot, error] = std::from_chars(text.data(), end, version.major);
  if (error != std::errc{} || dot == end || *dot != '.' || !digit(dot + 1)) return std::nullopt;
  auto [rest, minor_error] = std::from_chars(dot + 1, end, version.minor);
  if (minor_error != std::errc{} || rest != end) return std::nullopt;
  return version;
}

/// What a store of a layout has: the library writes and reads accordingly.
struct Layout {
  std::size_t index;
  constexpr bool has_notes() const noexcept { return index >= 2; }
  constexpr bool has_name() const noexcept { return index <= 3; }
  constexpr bool has_name_parts() const noexcept { return index >= 3; }
  constexpr bool has_shards() const noexcept { return index >= shards_since; }
  constexpr bool has_routed_imports() const noexcept { return index >= routed_imports_since; }
  constexpr bool has_receipts() const noexcept { return index >= receipts_since; }
  constexpr bool has_deciders() const noexcept { return index >= deciders_since; }
  constexpr bool has_sagas() const noexcept { return index >= sagas_since; }
};

}  // namespace order_proc::core
