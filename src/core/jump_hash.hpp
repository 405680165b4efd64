// Jump consistent hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm",
// arXiv:1406.2294): growing from n to n + 1 buckets moves 1/(n + 1) of the keys, all of them into
// the new bucket.
#pragma once

#include <cstdint>

namespace order_proc::core {

/// 0..buckets - 1; `buckets` is at least 1.
constexpr int jump_hash(std::uint64_t key, int buckets) noexcept {
  std::int64_t bucket = -1;
  std::int64_t next = 0;
  while (next < buckets) {
    bucket = next;
    key = key * 2862933555777941757ULL + 1;
    const auto low = static_cast<double>((key >> 33) + 1);
    next = static_cast<std::int64_t>(static_cast<double>(bucket + 1) *
                                     (static_cast<double>(std::int64_t{1} << 31) / low));
  }
  return static_cast<int>(bucket);
}

/// The remainder of the mathematicians, never negative.
constexpr int floor_mod(std::int64_t value, int divisor) noexcept {
  const auto remainder = static_cast<int>(value % divisor);
  return remainder < 0 ? remainder + divisor : remainder;
}

}  // namespace order_proc::core
