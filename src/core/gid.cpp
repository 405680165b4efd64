#include "core/gid.hpp"

#include <charconv>
#include <cstdio>

namespace order_proc::core {

GidText format_gid(const Gid& gid) noexcept {
  GidText text{};
  std::snprintf(text.data(), text.size(), "opc1_%016llx_%016llx_%016llx_%04x",
                static_cast<unsigned long long>(gid.coordinator),
                static_cast<unsigned long long>(gid.transaction),
                static_cast<unsigned long long>(gid.nonce), gid.shard & 0xFFFFU);
  return text;
}

std::optional<Gid> parse_gid(std::string_view text) noexcept {
  if (text.size() != gid_size || !text.starts_with(gid_prefix)) return std::nullopt;
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
  if (!number(gid.coordinator, 16) || !separator() || !number(gid.transaction, 16) ||
      !separator() || !number(gid.nonce, 16) || !separator() || !number(gid.shard, 4))
    return std::nullopt;
  return gid;
}

}  // namespace order_proc::core
