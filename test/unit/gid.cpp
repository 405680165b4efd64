#include "core/gid.hpp"

#include <gtest/gtest.h>
#include <regex.h>

#include <array>
#include <limits>
#include <stdexcept>
#include <string>

namespace order_proc::core {
namespace {

constexpr std::string_view sample =
    "opc2_0123456789abcdef_0000000c_00000000000002a5_fedcba9876543210_001f";
constexpr Gid sample_gid{0x0123456789abcdef, 12, 0x2a5, 0xfedcba9876543210, 0x1f};
/// Two shards decide.
constexpr std::string_view decided_sample =
    "opc3_0123456789abcdef_0000000c_00000000000002a5_fedcba9876543210_0020001f_001f";
constexpr Gid decided_sample_gid{0x0123456789abcdef, 12, 0x2a5, 0xfedcba9876543210, 0x1f,
                                 {0x20, 0x1f},       2};

/// As many as there may be.
Gid most_decided() {
  Gid gid = decided_sample_gid;
  gid.decider_count = most_deciders;
  gid.deciders.fill(0xFFFF);
  return gid;
}
/// As version 1.7 wrote it.
constexpr std::string_view old_sample =
    "opc1_0123456789abcdef_00000000000002a5_fedcba9876543210_001f";
constexpr Gid old_sample_gid{0x0123456789abcdef, 0, 0x2a5, 0xfedcba9876543210, 0x1f};

TEST(Gid, IsFormattedAtFixedWidth) {
  EXPECT_EQ(std::string_view(format_gid(sample_gid).data()), sample);
  EXPECT_EQ(std::string_view(format_gid({}).data()),
            "opc2_0000000000000000_00000000_0000000000000000_0000000000000000_0000");
  EXPECT_EQ(std::string_view(format_gid(decided_sample_gid).data()), decided_sample);
  EXPECT_EQ(std::string_view(format_gid(old_sample_gid, true).data()), old_sample);
  EXPECT_EQ(std::string_view(format_gid(decided_sample_gid, true).data()), old_sample);
  EXPECT_EQ(sample.size(), gid_size);
  EXPECT_EQ(decided_sample.size(), decided_gid_size + 8);
  EXPECT_EQ(old_sample.size(), old_gid_size);
  // PostgreSQL's GIDSIZE, its closing zero included.
  EXPECT_LE(GidText{}.size(), 200U);
  EXPECT_EQ(std::string_view(format_gid(most_decided()).data()).size() + 1, GidText{}.size());
}

TEST(Gid, TheBaseIsAllButTheShard) {
  EXPECT_EQ(gid_base(sample), "opc2_0123456789abcdef_0000000c_00000000000002a5_fedcba9876543210");
  EXPECT_EQ(gid_base(decided_sample),
            "opc3_0123456789abcdef_0000000c_00000000000002a5_fedcba9876543210_0020001f");
  EXPECT_EQ(gid_base(old_sample), "opc1_0123456789abcdef_00000000000002a5_fedcba9876543210");
  Gid other = sample_gid;
  other.shard = 2;
  EXPECT_EQ(gid_base(format_gid(other).data()), gid_base(sample));
}

TEST(Gid, ComesBackAsItWas) {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  constexpr auto most_timeline = std::numeric_limits<std::uint32_t>::max();
  for (const Gid& gid : std::to_array<Gid>({{},
                                            sample_gid,
                                            {most, most_timeline, most, most, 0xFFFF},
                                            {most, 0, 0, 0, 0},
                                            {0, most_timeline, 0, 0, 0},
                                            {0, 0, most, 0, 0},
                                            {0, 0, 0, most, 0},
                                            {0, 0, 0, 0, 0xFFFF},
                                            decided_sample_gid,
                                            {0, 0, 0, 0, 0, {0}, 1},
                                            {most, most_timeline, most, most, 0xFFFF, {1, 2, 3}, 3},
                                            most_decided(),
                                            {1, 2, 3, 4, 5}})) {
    const GidText text = format_gid(gid);
    EXPECT_EQ(parse_gid(text.data()), gid) << text.data();
    Gid without = gid;
    without.timeline = 0;
    without.deciders = {};
    without.decider_count = 0;
    const GidText old = format_gid(gid, true);
    EXPECT_EQ(parse_gid(old.data()), without) << old.data();
  }
}

void refuses_all_but(std::string_view text) {
  EXPECT_TRUE(parse_gid(text));
  for (std::size_t size = 0; size < text.size(); ++size)
    EXPECT_FALSE(parse_gid(text.substr(0, size))) << size;
  EXPECT_FALSE(parse_gid(std::string(text) + "0"));
  EXPECT_FALSE(parse_gid(" " + std::string(text.substr(1))));
  EXPECT_FALSE(parse_gid("opc4" + std::string(text.substr(4))));
  EXPECT_FALSE(parse_gid("OPC1" + std::string(text.substr(4))));
}

TEST(Gid, AnythingElseIsRefused) {
  EXPECT_FALSE(parse_gid({}));
  refuses_all_but(sample);
  refuses_all_but(decided_sample);
  refuses_all_but(old_sample);
  EXPECT_FALSE(parse_gid("opc1" + std::string(sample.substr(4))));
  EXPECT_FALSE(parse_gid("opc2" + std::string(old_sample.substr(4))));
  EXPECT_FALSE(parse_gid("opc3" + std::string(sample.substr(4))));
  EXPECT_FALSE(parse_gid("opc2" + std::string(decided_sample.substr(4))));
  std::string more(format_gid(most_decided()).data());
  more.insert(more.rfind('_'), "0001");
  EXPECT_FALSE(parse_gid(more));
}

/// Each character changed into each other one: refused, or another number that is written so.
void every_character_counts(std::string_view original, bool old) {
  for (std::size_t at = 0; at < original.size(); ++at)
    for (int code = 0; code < 256; ++code) {
      std::string text{original};
      text[at] = static_cast<char>(code);
      const auto gid = parse_gid(text);
      const bool digit = original[at] != '_' && at >= gid_prefix.size();
      const bool hexadecimal = (code >= '0' && code <= '9') || (code >= 'a' && code <= 'f');
      const bool valid = text == original || (digit && hexadecimal);
      ASSERT_EQ(gid.has_value(), valid) << text;
      if (gid) {
        ASSERT_EQ(std::string_view(format_gid(*gid, old).data()), text);
      }
    }
}

TEST(Gid, EveryCharacterCounts) {
  every_character_counts(sample, false);
  every_character_counts(decided_sample, false);
  every_character_counts(old_sample, true);
}

/// POSIX's extended regular expressions, which PostgreSQL's include.
class Pattern {
 public:
  explicit Pattern(const char* expression) {
    if (regcomp(&compiled_, expression, REG_EXTENDED | REG_NOSUB) != 0)
      throw std::invalid_argument(expression);
  }
  ~Pattern() { regfree(&compiled_); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  [[nodiscard]] bool takes(const std::string& text) const {
    return regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t compiled_{};
};

TEST(Gid, ThePatternTakesWhatIsParsed) {
  const std::uint64_t ours = sample_gid.coordinator;
  const Pattern pattern(gid_pattern(ours, 7).data());
  const auto takes = [&](const std::string& text) { return pattern.takes(text); };
  for (const std::string_view original : {sample, decided_sample, old_sample}) {
    const std::string text{original};
    EXPECT_TRUE(takes(text)) << text;
    EXPECT_TRUE(takes(std::string(text).replace(5, 16, "0000000000000007"))) << text;
    EXPECT_FALSE(takes(std::string(text).replace(5, 16, "0000000000000008"))) << text;
    EXPECT_FALSE(takes(text + "0"));
    EXPECT_FALSE(takes("x" + text));
    for (std::size_t size = 0; size < text.size(); ++size)
      EXPECT_FALSE(takes(text.substr(0, size))) << size;
    for (const char* const prefix : {"opc1_", "opc2_", "opc3_", "opc4_"}) {
      const std::string other = std::string(text).replace(0, 5, prefix);
      EXPECT_EQ(takes(other), parse_gid(other).has_value()) << other;
    }
    for (std::size_t at = 22; at < text.size(); ++at)
      for (const char letter : {'g', 'A', '_', '0'}) {
        std::string other = text;
        other[at] = letter;
        EXPECT_EQ(takes(other), parse_gid(other).has_value()) << other;
      }
  }
}

}  // namespace
}  // namespace order_proc::core
