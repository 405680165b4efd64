// The JSON text of an order's items: [{"id":1,"product_id":2,"quantity":3,"price":4.50},...]
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/decimal.hpp"

namespace order_proc::core {

namespace json_detail {
inline constexpr std::string_view id_key = "{\"id\":";
inline constexpr std::string_view product_key = ",\"product_id\":";
inline constexpr std::string_view quantity_key = ",\"quantity\":";
inline constexpr std::string_view price_key = ",\"price\":";

inline char* append(char* out, std::string_view text) noexcept {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}
}  // namespace json_detail

/// Room that write_item_head needs at most.
inline constexpr int max_item_head_length =
    static_cast<int>(json_detail::id_key.size() + json_detail::product_key.size() +
                     json_detail::quantity_key.size() + json_detail::price_key.size()) +
    3 * max_number_length;

/// Writes `{"id":…,"product_id":…,"quantity":…,"price":`; the price and the closing brace follow.
/// `out` has room for max_item_head_length; returns the end.
inline char* write_item_head(char* out, std::int64_t id, std::int64_t product_id,
                             std::int32_t quantity) noexcept {
  using namespace json_detail;
  out = write_int64(append(out, id_key), id);
  out = write_int64(append(out, product_key), product_id);
  out = write_int64(append(out, quantity_key), quantity);
  return append(out, price_key);
}

}  // namespace order_proc::core
