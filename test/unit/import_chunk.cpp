#include "core/import_chunk.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace order_proc::core {
namespace {

std::string packed(const ChunkOrder& order) {
  std::string bytes(chunk_order_size + order.order_ref.size(), '?');
  put_chunk_order(bytes.data(), order);
  return bytes;
}

std::string packed(const ChunkLine& line) {
  std::string bytes(chunk_line_size, '?');
  put_chunk_line(bytes.data(), line);
  return bytes;
}

constexpr ChunkOrder order{ChunkOrder::unfinished, -5, 2, "größer"};
constexpr ChunkLine first{std::numeric_limits<std::int64_t>::min(), 999, 17, 3, -1, false};
constexpr ChunkLine second{
    std::numeric_limits<std::int64_t>::max(), 0,
    std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int32_t>::max(),
    std::numeric_limits<std::int16_t>::max(), true};

TEST(ImportChunk, ComesBackAsItWasPut) {
  const std::string bytes =
      packed(order) + packed(first) + packed(second) + packed({ChunkOrder::continued, 7, 0, ""});
  ChunkReader reader(bytes);
  EXPECT_EQ(reader.order(), order);
  EXPECT_EQ(reader.line(), first);
  EXPECT_EQ(reader.line(), second);
  EXPECT_FALSE(reader.at_end());
  EXPECT_EQ(reader.order(), (ChunkOrder{ChunkOrder::continued, 7, 0, ""}));
  EXPECT_TRUE(reader.at_end());
  EXPECT_EQ(reader.order(), std::nullopt);
  EXPECT_EQ(reader.line(), std::nullopt);
}

TEST(ImportChunk, HasItsBytesInTheSameOrderEverywhere) {
  EXPECT_EQ(packed({1, 0x0102030405060708, 0x0a0b0c0d, "ab"}),
            std::string("\x01\x08\x07\x06\x05\x04\x03\x02\x01\x0d\x0c\x0b\x0a\x02\x00"
                        "ab",
                        17));
}

TEST(ImportChunk, FlagsAndLinesMayBeSetLater) {
  std::string bytes = packed({0, 1, 0, "x"}) + packed(first);
  set_chunk_order(bytes.data(), ChunkOrder::dropped | ChunkOrder::continued, 1);
  ChunkReader reader(bytes);
  EXPECT_EQ(reader.order(), (ChunkOrder{ChunkOrder::dropped | ChunkOrder::continued, 1, 1, "x"}));
  EXPECT_EQ(reader.line(), first);
}

TEST(ImportChunk, RefusesWhatIsCutOff) {
  const std::string whole = packed(order) + packed(first) + packed(second);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_EQ(ChunkReader(std::string_view(whole).substr(0, size)).order(), std::nullopt) << size;
}

TEST(ImportChunk, RefusesOtherFlags) {
  std::string bytes = packed({8, 1, 0, "x"});
  EXPECT_EQ(ChunkReader(bytes).order(), std::nullopt);
  bytes = packed({0, 1, 1, "x"}) + packed(first);
  bytes.back() = 2;
  ChunkReader reader(bytes);
  EXPECT_NE(reader.order(), std::nullopt);
  EXPECT_EQ(reader.line(), std::nullopt);
}

TEST(ImportChunk, RefusesMoreLinesThanThereAreBytes) {
  const std::string bytes =
      packed({0, 1, std::numeric_limits<std::uint32_t>::max(), "x"}) + packed(first);
  EXPECT_EQ(ChunkReader(bytes).order(), std::nullopt);
}

}  // namespace
}  // namespace order_proc::core
