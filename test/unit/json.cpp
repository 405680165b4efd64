// The JSON of an item: compared with snprintf, and never longer than promised.
#include "core/json.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <random>
#include <string>

namespace order_proc::core {
namespace {

struct Item {
  std::int64_t id;
  std::int64_t product_id;
  std::int32_t quantity;
};

/// In a buffer of the promised size: the sanitizer sees a byte more.
std::string head_of(const Item& item) {
  const std::unique_ptr<char[]> room(new char[max_item_head_length]);
  char* const end = write_item_head(room.get(), item.id, item.product_id, item.quantity);
  return {room.get(), end};
}

std::string reference(const Item& item) {
  std::array<char, 256> text;
  std::snprintf(
      text.data(), text.size(),
      "{\"id\":%" PRId64 ",\"product_id\":%" PRId64 ",\"quantity\":%" PRId32 ",\"price\":", item.id,
      item.product_id, item.quantity);
  return text.data();
}

void expect_same(const Item& item) {
  const std::string head = head_of(item);
  ASSERT_EQ(head, reference(item));
  ASSERT_LE(head.size(), static_cast<std::size_t>(max_item_head_length));
}

TEST(ItemHead, IsWhatThePriceFollows) {
  EXPECT_EQ(head_of({1, 2, 3}), R"({"id":1,"product_id":2,"quantity":3,"price":)");
}

TEST(ItemHead, WithThePriceIsAnItem) {
  const std::unique_ptr<char[]> room(new char[max_item_head_length + max_number_length]);
  char* const end = write_hundredths(write_item_head(room.get(), 1, 2, 3), 450);
  EXPECT_EQ(std::string(room.get(), end) + "}",
            R"({"id":1,"product_id":2,"quantity":3,"price":4.50})");
}

TEST(ItemHead, AtTheEndsOfTheTypes) {
  for (const auto id : {INT64_MIN, std::int64_t{-1}, std::int64_t{0}, INT64_MAX})
    for (const auto product_id : {INT64_MIN, std::int64_t{-1}, std::int64_t{0}, INT64_MAX})
      for (const auto quantity : {INT32_MIN, -1, 0, INT32_MAX})
        expect_same({id, product_id, quantity});
}

TEST(ItemHead, OfRandomItems) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200'000; ++round)
    ASSERT_NO_FATAL_FAILURE(
        expect_same({static_cast<std::int64_t>(random()) >> (random() % 64),
                     static_cast<std::int64_t>(random()) >> (random() % 64),
                     static_cast<std::int32_t>(static_cast<std::int64_t>(random()) >> 32)}));
}

}  // namespace
}  // namespace order_proc::core
