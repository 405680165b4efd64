#include "core/gid.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>

namespace order_proc::core {
namespace {

constexpr std::string_view sample = "opc1_0123456789abcdef_00000000000002a5_fedcba9876543210_001f";
constexpr Gid sample_gid{0x0123456789abcdef, 0x2a5, 0xfedcba9876543210, 0x1f};

TEST(Gid, IsFormattedAtFixedWidth) {
  EXPECT_EQ(std::string_view(format_gid(sample_gid).data()), sample);
  EXPECT_EQ(std::string_view(format_gid({}).data()),
            "opc1_0000000000000000_0000000000000000_0000000000000000_0000");
  EXPECT_EQ(sample.size(), gid_size);
  // PostgreSQL's GIDSIZE, its closing zero included.
  EXPECT_LT(gid_size, 200U);
}

TEST(Gid, TheBaseIsAllButTheShard) {
  EXPECT_EQ(sample.substr(0, gid_base_size),
            "opc1_0123456789abcdef_00000000000002a5_fedcba9876543210");
  Gid other = sample_gid;
  other.shard = 2;
  EXPECT_EQ(std::string_view(format_gid(other).data()).substr(0, gid_base_size),
            sample.substr(0, gid_base_size));
}

TEST(Gid, ComesBackAsItWas) {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  for (const Gid& gid : std::to_array<Gid>({{},
                                            sample_gid,
                                            {most, most, most, 0xFFFF},
                                            {most, 0, 0, 0},
                                            {0, most, 0, 0},
                                            {0, 0, most, 0},
                                            {0, 0, 0, 0xFFFF},
                                            {1, 2, 3, 4}})) {
    const GidText text = format_gid(gid);
    EXPECT_EQ(parse_gid(text.data()), gid) << text.data();
  }
}

TEST(Gid, AnythingElseIsRefused) {
  EXPECT_TRUE(parse_gid(sample));
  EXPECT_FALSE(parse_gid({}));
  for (std::size_t size = 0; size < sample.size(); ++size)
    EXPECT_FALSE(parse_gid(sample.substr(0, size))) << size;
  EXPECT_FALSE(parse_gid(std::string(sample) + "0"));
  EXPECT_FALSE(parse_gid(" " + std::string(sample.substr(1))));
  EXPECT_FALSE(parse_gid("opc2" + std::string(sample.substr(4))));
  EXPECT_FALSE(parse_gid("OPC1" + std::string(sample.substr(4))));
}

TEST(Gid, EveryCharacterCounts) {
  // Each character changed into each other one: refused, or another number that is written so.
  for (std::size_t at = 0; at < sample.size(); ++at)
    for (int code = 0; code < 256; ++code) {
      std::string text{sample};
      text[at] = static_cast<char>(code);
      const auto gid = parse_gid(text);
      const bool digit = sample[at] != '_' && at >= gid_prefix.size();
      const bool hexadecimal = (code >= '0' && code <= '9') || (code >= 'a' && code <= 'f');
      const bool valid = text == sample || (digit && hexadecimal);
      ASSERT_EQ(gid.has_value(), valid) << text;
      if (gid) {
        ASSERT_EQ(std::string_view(format_gid(*gid).data()), text);
      }
    }
}

}  // namespace
}  // namespace order_proc::core
