// Slots and order ids: the frozen vectors, and that an id carries its slot there and back.
#include "core/slot.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <random>

namespace order_proc::core {
namespace {

constexpr std::int64_t most_sequence_value = (std::int64_t{1} << 51) - 1;

/// PostgreSQL's hashint8extended with seed 0, written down anew: Bob Jenkins' lookup3, its final
/// mix over one word.
std::uint64_t hash_int8_extended(std::int64_t value) {
  const auto low = static_cast<std::uint32_t>(value);
  const auto high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(value) >> 32);
  std::uint32_t a = 0x9e3779b9U + 4U + 3923095U;
  std::uint32_t b = a;
  std::uint32_t c = a;
  a += low ^ (value >= 0 ? high : ~high);
  c = (c ^ b) - std::rotl(b, 14);
  a = (a ^ c) - std::rotl(c, 11);
  b = (b ^ a) - std::rotl(a, 25);
  c = (c ^ b) - std::rotl(b, 16);
  a = (a ^ c) - std::rotl(c, 4);
  b = (b ^ a) - std::rotl(a, 14);
  c = (c ^ b) - std::rotl(b, 24);
  return (std::uint64_t{b} << 32) | c;
}

TEST(Slot, FrozenVectorsAreThoseOfPostgresHash) {
  for (const auto& [customer_id, slot] : slot_vectors)
    EXPECT_EQ(slot_of_hash(hash_int8_extended(customer_id)), slot) << customer_id;
}

TEST(Slot, FrozenVectorsReachAcrossTheWholeRange) {
  bool least = false;
  bool most = false;
  for (const auto& vector : slot_vectors) {
    least |= vector.customer_id == INT64_MIN;
    most |= vector.customer_id == INT64_MAX;
    EXPECT_GE(vector.slot, 0);
    EXPECT_LT(vector.slot, slot_count);
  }
  EXPECT_TRUE(least && most);
}

TEST(Slot, OfAHashIsItsLowTwelveBits) {
  EXPECT_EQ(slot_of_hash(0), 0);
  EXPECT_EQ(slot_of_hash(4095), 4095);
  EXPECT_EQ(slot_of_hash(4096), 0);
  EXPECT_EQ(slot_of_hash(UINT64_MAX), 4095);
  EXPECT_EQ(slot_of_hash(0xFFFFFFFFFFFFF000), 0);
}

TEST(Slot, HashDealsNeighboursEvenly) {
  std::array<int, slot_count> customers{};
  constexpr int each = 200;
  for (std::int64_t id = 1; id <= slot_count * each; ++id)
    ++customers[static_cast<std::size_t>(slot_of_hash(hash_int8_extended(id)))];
  for (const int count : customers) {
    EXPECT_GT(count, each / 2);
    EXPECT_LT(count, each * 2);
  }
}

TEST(Slot, ByModuloIsFloorModulo) {
  EXPECT_EQ(slot_by_modulo(0), 0);
  EXPECT_EQ(slot_by_modulo(4095), 4095);
  EXPECT_EQ(slot_by_modulo(4096), 0);
  EXPECT_EQ(slot_by_modulo(-1), 4095);
  EXPECT_EQ(slot_by_modulo(-4096), 0);
  EXPECT_EQ(slot_by_modulo(INT64_MAX), 4095);
  EXPECT_EQ(slot_by_modulo(INT64_MIN), 0);
  std::mt19937_64 random(2);
  for (int round = 0; round < 100'000; ++round) {
    const auto id = static_cast<std::int64_t>(random());
    const auto floor_mod = ((id % slot_count) + slot_count) % slot_count;
    ASSERT_EQ(slot_by_modulo(id), floor_mod) << id;
  }
}

TEST(OrderId, CarriesItsSlot) {
  EXPECT_EQ(order_id_of(0, 0), 0);
  EXPECT_EQ(order_id_of(1, 0), 4096);
  EXPECT_EQ(order_id_of(1, 4095), 8191);
  EXPECT_EQ(order_id_of(most_sequence_value, 4095), INT64_MAX);
  EXPECT_EQ(order_id_of(most_sequence_value, 0), INT64_MAX - 4095);
}

TEST(OrderId, OfTheHighestSequenceValueIsStillPositive) {
  for (int slot = 0; slot < slot_count; ++slot) {
    ASSERT_GT(order_id_of(most_sequence_value, slot), 0);
    ASSERT_EQ(slot_of_order(order_id_of(most_sequence_value, slot)), slot);
  }
}

TEST(OrderId, GivesSequenceValueAndSlotBack) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200'000; ++round) {
    const auto value = static_cast<std::int64_t>(random() & most_sequence_value);
    const auto slot = static_cast<int>(random() % slot_count);
    const auto id = order_id_of(value, slot);
    ASSERT_GE(id, 0);
    ASSERT_EQ(id >> slot_bits, value);
    ASSERT_EQ(slot_of_order(id), slot);
  }
}

TEST(OrderId, GrowsWithTheSequenceWhateverTheSlots) {
  EXPECT_LT(order_id_of(7, 4095), order_id_of(8, 0));
}

TEST(OrderId, OfAnyNumberHasASlot) {
  for (const auto id : {INT64_MIN, INT64_MIN + 1, std::int64_t{-1}, std::int64_t{0}, INT64_MAX}) {
    EXPECT_GE(slot_of_order(id), 0);
    EXPECT_LT(slot_of_order(id), slot_count);
  }
}

TEST(Placement, HasTheNameThatIsStored) {
  EXPECT_EQ(name_of(Placement::hash), "hash");
  EXPECT_EQ(name_of(Placement::modulo), "modulo");
}

}  // namespace
}  // namespace order_proc::core
