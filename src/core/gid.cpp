#include "core/gid.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace order_proc::core {

GidText format_gid(const Gid& gid, bool old) noexcept {
  GidText text{};
  std::array<char, 10> timeline{};
  std::array<char, 4 * most_deciders + 2> deciders{};
  const bool decided = !old && gid.decider_count > 0;
  if (!old) std::snprintf(timeline.data(), timeline.size(), "%08x_", gid.timeline);
  if (decided) {
    const std::size_t count = std::min<std::size_t>(gid.decider_count, most_deciders);
    for (std::size_t i = 0; i < count; ++i)
      std::snprintf(&deciders[4 * i], deciders.size() - 4 * i, "%04x_", gid.deciders[i]);
  }
  std::snprintf(text.data(), text.size(), "%s%016llx_%s%016llx_%016llx_%s%04x",
                (old ? old_gid_prefix : (decided ? decided_gid_prefix : gid_prefix)).data(),
                static_cast<unsigned long long>(gid.coordinator), timeline.data(),
                static_cast<unsigned long long>(gid.transaction),
                static_cast<unsigned long long>(gid.nonce), deciders.data(), gid.shard & 0xFFFFU);
  return text;
}

static_assert(most_deciders == 16, "the limit stands in the pattern");
GidPattern gid_pattern(std::uint64_t coordinator, std::uint64_t former) noexcept {
  GidPattern text{};
  const auto a = static_cast<unsigned long long>(coordinator);
  const auto b = static_cast<unsigned long long>(former);
  std::snprintf(text.data(), text.size(),
                "^(%s(%016llx|%016llx)_[0-9a-f]{16}_[0-9a-f]{16}|"
                "%s(%016llx|%016llx)_[0-9a-f]{8}_[0-9a-f]{16}_[0-9a-f]{16}|"
                "%s(%016llx|%016llx)_[0-9a-f]{8}_[0-9a-f]{16}_[0-9a-f]{16}_([0-9a-f]{4}){1,16})"
                "_[0-9a-f]{4}$",
                old_gid_prefix.data(), a, b, gid_prefix.data(), a, b, decided_gid_prefix.data(), a,
                b);
  return text;
}

std::optional<Gid> parse_gid(std::string_view text) noexcept {
  const bool old = text.starts_with(old_gid_prefix);
  const bool decided = text.starts_with(decided_gid_prefix);
  if (!old && !decided && !text.starts_with(gid_prefix)) return std::nullopt;
  const std::size_t size = old ? old_gid_size : decided ? decided_gid_size : gid_size;
  const std::size_t more = text.size() - size;
  if (text.size() < size ||
      (decided ? more % 4 != 0 || more == 0 || more > 4 * most_deciders : more != 0))
    return std::nullopt;
  Gid gid{};
  std::size_t at = gid_prefix.size();
  const auto number = [&](auto& value, std::size_t width) {
    const std::string_view digits = text.substr(at, width);
    for (const char digit : digits)
      if (!((digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f'))) return false;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    at += width;
    return error == std::errc{} && end == digits.data() + digits.size();
  };
  const auto separator = [&] { return text[at++] == '_'; };
  if (!number(gid.coordinator, 16) || !separator()) return std::nullopt;
  if (!old && (!number(gid.timeline, 8) || !separator())) return std::nullopt;
  if (!number(gid.transaction, 16) || !separator() || !number(gid.nonce, 16) || !separator())
    return std::nullopt;
  if (decided) {
    for (; 4 * gid.decider_count < more; ++gid.decider_count)
      if (!number(gid.deciders[gid.decider_count], 4)) return std::nullopt;
    if (!separator()) return std::nullopt;
  }
  if (!number(gid.shard, 4)) return std::nullopt;
  return gid;
}

}  // namespace order_proc::core
