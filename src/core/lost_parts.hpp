// Transactions that their shards decided, and of which receipts are all there is: who has lost a
// part. Receipts are forgotten in this sequence, each step behind the end of the one before, and it
// may stop anywhere: the one of the first shard is closed; those of the others are removed; that of
// the first is removed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace order_proc::core {

/// Of a shard: it has none; one that proves that it committed; one that proves that all did.
enum class ReceiptState : std::uint8_t { none, open, closed };

/// A look at the shards one after the other, or at once, in the order of the identifier.
using ReceiptLook = std::span<const ReceiptState>;

/// Whether shard `at` has lost its part. Three looks, each behind the end of the one before, all of
/// the same shards, behind a moment in which the transaction was decided, and prepared on no shard.
constexpr bool has_lost(std::span<const ReceiptLook, 3> looks, std::size_t at) noexcept {
  const auto has = [&](std::size_t look, std::size_t shard) {
    return looks[look][shard] != ReceiptState::none;
  };
  // All had theirs.
  for (const ReceiptLook look : looks)
    if (std::find(look.begin(), look.end(), ReceiptState::closed) != look.end()) return false;
  // As long as that of the first is open none of the others was removed.
  if (has(1, 0)) return !has(0, at);
  // That of the first is removed behind the others, if any of them are there it was not.
  const auto others = looks[2].subspan(1);
  const bool others_are_there = std::any_of(
      others.begin(), others.end(), [](ReceiptState state) { return state != ReceiptState::none; });
  return others_are_there && !has(2, at);
}

}  // namespace order_proc::core
