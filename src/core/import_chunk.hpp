// How a coordinator packs a part of an import for a shard: orders, each followed by its lines.
// Numbers are little-endian, of fixed width.
//
// An order that is too large for one chunk goes in pieces: all but the last say `unfinished`, all
// but the first `continued`; a last one may say `dropped`.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace order_proc::core {

struct ChunkOrder {
  static constexpr std::uint8_t continued = 1;
  static constexpr std::uint8_t unfinished = 2;
  static constexpr std::uint8_t dropped = 4;

  std::uint8_t flags;
  std::int64_t customer_id;
  std::uint32_t lines;
  std::string_view order_ref;
  friend bool operator==(const ChunkOrder&, const ChunkOrder&) noexcept = default;
};

struct ChunkLine {
  std::int64_t product_id;
  std::int64_t price;  ///< hundredths
  std::int64_t created_at;
  std::int32_t quantity;
  std::int16_t status;
  bool has_created_at;
  friend bool operator==(const ChunkLine&, const ChunkLine&) noexcept = default;
};

inline constexpr std::size_t chunk_order_size = 1 + 8 + 4 + 2;  ///< without order_ref
inline constexpr std::size_t chunk_line_size = 8 + 8 + 8 + 4 + 2 + 1;
inline constexpr std::size_t longest_chunk_ref = 65535;

namespace chunk_detail {

/// Bytes of a number in the order they are sent.
template <std::integral T>
std::array<char, sizeof(T)> bytes_of(T value) noexcept {
  auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  if constexpr (std::endian::native == std::endian::big)
    for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(bytes[i], bytes[sizeof(T) - 1 - i]);
  return bytes;
}

template <std::integral T>
char* put(char* at, T value) noexcept {
  const auto bytes = bytes_of(value);
  std::memcpy(at, bytes.data(), sizeof(T));
  return at + sizeof(T);
}

template <std::integral T>
T get(const char*& at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof(T));
  at += sizeof(T);
  return std::bit_cast<T>(bytes_of(value));
}

}  // namespace chunk_detail

/// Writes chunk_order_size + order_ref.size() bytes.
inline void put_chunk_order(char* at, const ChunkOrder& order) noexcept {
  using chunk_detail::put;
  at = put(at, order.flags);
  at = put(at, order.customer_id);
  at = put(at, order.lines);
  at = put(at, static_cast<std::uint16_t>(order.order_ref.size()));
  std::memcpy(at, order.order_ref.data(), order.order_ref.size());
}

/// What is known only when its lines are there.
inline void set_chunk_order(char* order, std::uint8_t flags, std::uint32_t lines) noexcept {
  (void)chunk_detail::put(order, flags);
  (void)chunk_detail::put(order + 9, lines);
}

/// Writes chunk_line_size bytes.
inline void put_chunk_line(char* at, const ChunkLine& line) noexcept {
  using chunk_detail::put;
  at = put(at, line.product_id);
  at = put(at, line.price);
  at = put(at, line.created_at);
  at = put(at, line.quantity);
  at = put(at, line.status);
  (void)put(at, static_cast<std::uint8_t>(line.has_created_at ? 1 : 0));
}

/// Reads a chunk, which may come from anybody: nullopt for what is cut off or malformed.
class ChunkReader {
 public:
  explicit ChunkReader(std::string_view bytes) noexcept
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool at_end() const noexcept { return at_ == end_; }

  /// The next order; its lines come next.
  std::optional<ChunkOrder> order() noexcept {
    using chunk_detail::get;
    if (left() < chunk_order_size) return std::nullopt;
    ChunkOrder order{};
    order.flags = get<std::uint8_t>(at_);
    order.customer_id = get<std::int64_t>(at_);
    order.lines = get<std::uint32_t>(at_);
    const std::size_t size = get<std::uint16_t>(at_);
    constexpr std::uint8_t all =
        ChunkOrder::continued | ChunkOrder::unfinished | ChunkOrder::dropped;
    if ((order.flags & ~all) != 0 || left() < size ||
        (left() - size) / chunk_line_size < order.lines)
      return std::nullopt;
    order.order_ref = {at_, size};
    at_ += size;
    return order;
  }

  /// A line of the order that was read last; as many as it says are there.
  std::optional<ChunkLine> line() noexcept {
    using chunk_detail::get;
    if (left() < chunk_line_size) return std::nullopt;
    ChunkLine line{};
    line.product_id = get<std::int64_t>(at_);
    line.price = get<std::int64_t>(at_);
    line.created_at = get<std::int64_t>(at_);
    line.quantity = get<std::int32_t>(at_);
    line.status = get<std::int16_t>(at_);
    const auto has = get<std::uint8_t>(at_);
    if (has > 1) return std::nullopt;
    line.has_created_at = has == 1;
    return line;
  }

 private:
  std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

  const char* at_;
  const char* end_;
};

}  // namespace order_proc::core
