// Identifiers of prepared transactions, numbers in hexadecimal of fixed width:
// opc2_<coordinator>_<timeline>_<transaction>_<nonce>_<shard>, and where the shards decide, not the
// coordinator, opc3_ with <deciders>, the numbers of those shards on end, before the shard. The
// part before the shard names the transaction in the commit log. The nonce makes it unique for
// ever: a transaction id may be given out again after a crash. Version 1.7 wrote opc1_, without the
// timeline; it is read for ever.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace order_proc::core {

/// As many shards as may decide a transaction together: an identifier has room for no more.
inline constexpr std::size_t most_deciders = 16;

struct Gid {
  std::uint64_t coordinator;
  std::uint32_t timeline;     ///< of the coordinator's server; 0: not known
  std::uint64_t transaction;  ///< its id; where shards decide, its number in its session
  std::uint64_t nonce;
  std::uint32_t shard;
  std::array<std::uint16_t, most_deciders> deciders{};  ///< the shards that decide
  std::uint32_t decider_count = 0;                      ///< 0: the coordinator does
  friend constexpr bool operator==(const Gid&, const Gid&) noexcept = default;
};

constexpr std::span<const std::uint16_t> deciders_of(const Gid& gid) noexcept {
  return std::span(gid.deciders).first(gid.decider_count);
}

inline constexpr std::string_view gid_prefix = "opc2_";
inline constexpr std::string_view decided_gid_prefix = "opc3_";
inline constexpr std::string_view old_gid_prefix = "opc1_";
inline constexpr std::size_t gid_size = 5 + 16 + 1 + 8 + 1 + 16 + 1 + 16 + 1 + 4;
inline constexpr std::size_t old_gid_size = gid_size - 9;
inline constexpr std::size_t decided_gid_size = gid_size + 1;  ///< and 4 for each decider
using GidText = std::array<char, decided_gid_size + 4 * most_deciders + 1>;

/// As opc3_ with deciders, else as opc2_, or with `old` as version 1.7 wrote it.
GidText format_gid(const Gid& gid, bool old = false) noexcept;

/// nullopt for anything that format_gid does not make.
std::optional<Gid> parse_gid(std::string_view text) noexcept;

/// A regular expression of PostgreSQL for what parse_gid takes of these two coordinators.
using GidPattern = std::array<char, 400>;
GidPattern gid_pattern(std::uint64_t coordinator, std::uint64_t former) noexcept;

/// What names the transaction: all but the shard.
constexpr std::string_view gid_base(std::string_view gid) noexcept {
  return gid.substr(0, gid.rfind('_'));
}

}  // namespace order_proc::core
