// Slots and order ids: a customer belongs to one of 4096 slots for ever, and an order id carries
// the slot of its customer in its low 12 bits, so an order is routed by its id alone.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace order_proc::core {

inline constexpr int slot_bits = 12;
inline constexpr std::int64_t slot_count = std::int64_t{1} << slot_bits;

/// How a store deals customers to slots: by PostgreSQL's own hash of the id, or by its low bits.
enum class Placement { hash, modulo };

/// `hash` is hashint8extended(customer_id, 0).
constexpr int slot_of_hash(std::uint64_t hash) noexcept {
  return static_cast<int>(hash & (slot_count - 1));
}

constexpr int slot_by_modulo(std::int64_t customer_id) noexcept {
  return static_cast<int>(customer_id & (slot_count - 1));
}

constexpr int slot_of_order(std::int64_t order_id) noexcept {
  return static_cast<int>(order_id & (slot_count - 1));
}

/// The last value of the sequence of orders: with the slot behind it an id fills 63 bits.
inline constexpr std::int64_t most_order_number = (std::int64_t{1} << (63 - slot_bits)) - 1;

/// `sequence_value` is at most 2^51-1 (MAXVALUE of the sequence), so the id stays positive.
constexpr std::int64_t order_id_of(std::int64_t sequence_value, int slot) noexcept {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(sequence_value) << slot_bits) | slot;
}

/// Frozen vectors: the slots of these customers under Placement::hash. A server whose
/// hashint8extended answers otherwise must not hold a store: its ids would contradict those made
/// elsewhere.
struct SlotVector {
  std::int64_t customer_id;
  int slot;
};
inline constexpr std::array<SlotVector, 8> slot_vectors{{
    {0, 175},
    {1, 1862},
    {-1, 2378},
    {42, 3784},
    {17850, 2712},
    {4294967296, 1862},
    {INT64_MAX, 4023},
    {INT64_MIN, 1555},
}};

constexpr std::string_view name_of(Placement placement) noexcept {
  return placement == Placement::hash ? "hash" : "modulo";
}

}  // namespace order_proc::core
