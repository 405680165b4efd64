#include "core/jump_hash.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <limits>

namespace order_proc::core {
namespace {

/// Well mixed keys (splitmix64).
constexpr std::uint64_t key_of(std::uint64_t n) {
  std::uint64_t key = n * 0x9E3779B97F4A7C15ULL;
  key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9ULL;
  key = (key ^ (key >> 27)) * 0x94D049BB133111EBULL;
  return key ^ (key >> 31);
}

TEST(JumpHash, GivesTheValuesOfOtherImplementations) {
  EXPECT_EQ(jump_hash(1, 1), 0);
  EXPECT_EQ(jump_hash(42, 57), 43);
  EXPECT_EQ(jump_hash(0xDEAD10CC, 1), 0);
  EXPECT_EQ(jump_hash(0xDEAD10CC, 666), 361);
  EXPECT_EQ(jump_hash(256, 1024), 520);
}

TEST(JumpHash, StaysWithinTheBuckets) {
  for (const int buckets : {1, 2, 3, 64, 4096, std::numeric_limits<int>::max()})
    for (std::uint64_t n = 0; n < 1000; ++n) {
      const int bucket = jump_hash(key_of(n), buckets);
      ASSERT_GE(bucket, 0);
      ASSERT_LT(bucket, buckets);
    }
}

TEST(JumpHash, GrowingMovesOneShareAndOnlyIntoTheNewBucket) {
  constexpr int keys = 40000;
  for (int buckets = 1; buckets <= 12; ++buckets) {
    int moved = 0;
    for (std::uint64_t n = 0; n < keys; ++n) {
      const int before = jump_hash(key_of(n), buckets);
      const int after = jump_hash(key_of(n), buckets + 1);
      if (after == before) continue;
      ASSERT_EQ(after, buckets);
      ++moved;
    }
    EXPECT_NEAR(moved, keys / (buckets + 1), 0.1 * keys / (buckets + 1)) << buckets;
  }
}

TEST(JumpHash, SpreadsEvenly) {
  constexpr int keys = 40000;
  std::array<int, 10> counts{};
  for (std::uint64_t n = 0; n < keys; ++n)
    ++counts[static_cast<std::size_t>(jump_hash(key_of(n), 10))];
  for (const int count : counts) EXPECT_NEAR(count, keys / 10, 0.05 * keys / 10);
}

TEST(FloorMod, IsNeverNegative) {
  EXPECT_EQ(floor_mod(0, 4), 0);
  EXPECT_EQ(floor_mod(7, 4), 3);
  EXPECT_EQ(floor_mod(-1, 4), 3);
  EXPECT_EQ(floor_mod(-4, 4), 0);
  EXPECT_EQ(floor_mod(-5, 4), 3);
  EXPECT_EQ(floor_mod(-5, 1), 0);
}

TEST(FloorMod, TakesTheEndsOfTheRange) {
  constexpr auto lowest = std::numeric_limits<std::int64_t>::min();
  constexpr auto highest = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(floor_mod(lowest, 1), 0);
  EXPECT_EQ(floor_mod(lowest, 4), 0);
  EXPECT_EQ(floor_mod(lowest, 3), 1);
  EXPECT_EQ(floor_mod(highest, 3), 1);
  EXPECT_EQ(floor_mod(highest, std::numeric_limits<int>::max()), 1);
  EXPECT_EQ(floor_mod(lowest, std::numeric_limits<int>::max()),
            std::numeric_limits<int>::max() - 2);
}

}  // namespace
}  // namespace order_proc::core
