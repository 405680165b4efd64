// Identifiers of prepared transactions: opc1_<coordinator>_<transaction>_<nonce>_<shard>, numbers
// in hexadecimal of fixed width. The part before the shard names the transaction in the commit log.
// The nonce makes it unique for ever: a transaction id may be given out again after a crash.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace order_proc::core {

struct Gid {
  std::uint64_t coordinator;
  std::uint64_t transaction;
  std::uint64_t nonce;
  std::uint32_t shard;
  friend constexpr bool operator==(const Gid&, const Gid&) noexcept = default;
};

inline constexpr std::string_view gid_prefix = "opc1_";
inline constexpr std::size_t gid_base_size = 5 + 16 + 1 + 16 + 1 + 16;
inline constexpr std::size_t gid_size = gid_base_size + 1 + 4;
using GidText = std::array<char, gid_size + 1>;

GidText format_gid(const Gid& gid) noexcept;

/// nullopt for anything that format_gid does not make.
std::optional<Gid> parse_gid(std::string_view text) noexcept;

}  // namespace order_proc::core
