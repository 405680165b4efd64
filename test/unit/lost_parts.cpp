#include "core/lost_parts.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <set>
#include <string>
#include <vector>

namespace order_proc::core {
namespace {

// The states of all shards, a letter each: P prepared, O a receipt, C a closed one, N none.

ReceiptState state_of(char letter) {
  return letter == 'O'   ? ReceiptState::open
         : letter == 'C' ? ReceiptState::closed
                         : ReceiptState::none;
}

/// Those that have lost their part, as 0 and 1.
std::string lost(const std::array<std::string, 3>& looks) {
  std::array<std::vector<ReceiptState>, 3> states;
  for (std::size_t i = 0; i < looks.size(); ++i)
    for (const char letter : looks[i]) states[i].push_back(state_of(letter));
  const std::array<ReceiptLook, 3> spans{states[0], states[1], states[2]};
  std::string result;
  for (std::size_t at = 0; at < looks[0].size(); ++at) result += has_lost(spans, at) ? '1' : '0';
  return result;
}

TEST(LostParts, AreThoseWithoutAReceiptWhereAnotherHasOne) {
  EXPECT_EQ(lost({"OON", "OON", "OON"}), "001");
  EXPECT_EQ(lost({"NOO", "NOO", "NOO"}), "100");
  EXPECT_EQ(lost({"ONN", "ONN", "ONN"}), "011");
  EXPECT_EQ(lost({"NON", "NON", "NON"}), "101");
  EXPECT_EQ(lost({"OOO", "OOO", "OOO"}), "000");
  EXPECT_EQ(lost({"NNN", "NNN", "NNN"}), "000");
}

TEST(LostParts, AreNotThoseThatWereForgotten) {
  EXPECT_EQ(lost({"CNN", "CNN", "CNN"}), "000");
  EXPECT_EQ(lost({"ONN", "CNN", "CNN"}), "000");
  EXPECT_EQ(lost({"ONO", "NNO", "NNN"}), "000");
}

// --- everything that can happen ----------------------------------------------------------------

// Sessions that forget, and one that looks, step by step in every order; each shard answers alone.
// Who forgets may die at any time, and what it has sent is carried out later, or never.

enum class Phase : char { listing, closing, removing, removing_first, over };

struct Forgetter {
  Phase phase = Phase::listing;
  std::string seen;  ///< '?': not yet
  std::string sent;  ///< '1': a command is under way to the shard
  bool alive = true;
  auto operator<=>(const Forgetter&) const = default;
};

/// The looks of who looks: at the receipts, at what is prepared, and three at the receipts.
constexpr std::size_t looks_in_all = 5;

struct World {
  std::string shards;
  std::vector<Forgetter> forgetters;
  std::size_t look = 0;
  std::array<std::string, looks_in_all> seen;
  auto operator<=>(const World&) const = default;
};

bool contains(const std::string& text, char letter) {
  return text.find(letter) != text.npos;
}

bool is_complete(const std::string& seen) {
  return contains(seen, 'C') || !contains(seen, 'N');
}

class Search {
 public:
  Search(std::size_t shards, std::size_t forgetters) : unknown_(shards, '?'), none_(shards, '0') {
    World world{std::string(shards, 'P'), {}, 0, {}};
    for (std::size_t i = 0; i < forgetters; ++i)
      world.forgetters.push_back({Phase::listing, unknown_, none_, true});
    world.seen[0] = unknown_;
    add(world);
    while (!waiting_.empty()) {
      const World next = waiting_.front();
      waiting_.pop_front();
      go_on(next);
    }
  }

  std::size_t states() const { return known_.size(); }
  /// Complete sequences of looks.
  std::size_t verdicts() const { return verdicts_; }
  /// One that found something lost.
  const std::string& mistake() const { return mistake_; }

 private:
  /// Worlds that go on alike are one.
  void add(World world) {
    for (Forgetter& forgetter : world.forgetters)
      if (forgetter.phase == Phase::over || (!forgetter.alive && !contains(forgetter.sent, '1')))
        forgetter = {Phase::over, "", none_, false};
    std::sort(world.forgetters.begin(), world.forgetters.end());
    for (std::size_t i = 0; i < 2 && i < world.look; ++i) world.seen[i].clear();
    if (known_.insert(world).second) waiting_.push_back(std::move(world));
  }

  void go_on(const World& world) {
    for (std::size_t at = 0; at < unknown_.size(); ++at)
      if (world.shards[at] == 'P') {
        World next = world;
        next.shards[at] = 'O';
        add(next);
      }
    for (std::size_t who = 0; who < world.forgetters.size(); ++who) forget(world, who);
    look(world);
  }

  /// What a look for receipts sees.
  static char receipt(char letter) { return letter == 'P' ? 'N' : letter; }

  void forget(const World& world, std::size_t who) {
    const Forgetter& now = world.forgetters[who];
    for (std::size_t at = 0; at < unknown_.size(); ++at) {
      if (now.sent[at] == '0') continue;
      World next = world;
      next.forgetters[who].sent[at] = '0';
      char& shard = next.shards[at];
      if (now.phase == Phase::closing)
        shard = shard == 'O' ? 'C' : shard;
      else
        shard = 'N';
      add(next);
    }
    if (!now.alive) return;
    World next = world;
    next.forgetters[who].alive = false;
    add(next);
    if (now.phase == Phase::listing && contains(now.seen, '?')) {
      for (std::size_t at = 0; at < unknown_.size(); ++at) {
        if (now.seen[at] != '?') continue;
        next = world;
        next.forgetters[who].seen[at] = receipt(world.shards[at]);
        add(next);
      }
      return;
    }
    if (contains(now.sent, '1')) return;
    next = world;
    advance(next.forgetters[who]);
    add(next);
  }

  void advance(Forgetter& forgetter) const {
    const std::string first = "1" + none_.substr(1);
    const std::string others = "0" + std::string(none_.size() - 1, '1');
    const std::string seen = forgetter.seen;
    forgetter.seen.clear();
    if (forgetter.phase == Phase::listing && !is_complete(seen)) {
      forgetter.seen = unknown_;
    } else if (forgetter.phase == Phase::listing && !contains(seen, 'C')) {
      forgetter.phase = Phase::closing;
      forgetter.sent = first;
    } else if (forgetter.phase <= Phase::closing) {
      forgetter.phase = Phase::removing;
      forgetter.sent = others;
    } else if (forgetter.phase == Phase::removing) {
      forgetter.phase = Phase::removing_first;
      forgetter.sent = first;
    } else {
      forgetter.phase = Phase::over;
    }
  }

  void look(const World& world) {
    if (world.look == looks_in_all) return;
    const std::string& seen = world.seen[world.look];
    if (contains(seen, '?')) {
      for (std::size_t at = 0; at < seen.size(); ++at) {
        if (seen[at] != '?') continue;
        World next = world;
        next.seen[world.look][at] = world.look == 1 ? world.shards[at] : receipt(world.shards[at]);
        add(next);
      }
      return;
    }
    // Not worth a closer look, or not over.
    if ((world.look == 0 && (is_complete(seen) || !contains(seen, 'O'))) ||
        (world.look == 1 && contains(seen, 'P')))
      return;
    World next = world;
    ++next.look;
    if (next.look < looks_in_all) {
      next.seen[next.look] = unknown_;
    } else {
      ++verdicts_;
      const std::array<std::string, 3> looks{world.seen[2], world.seen[3], world.seen[4]};
      if (contains(lost(looks), '1')) mistake_ = looks[0] + " " + looks[1] + " " + looks[2];
    }
    add(next);
  }

  std::string unknown_;
  std::string none_;
  std::set<World> known_;
  std::deque<World> waiting_;
  std::size_t verdicts_ = 0;
  std::string mistake_;
};

TEST(LostParts, AreNeverFoundWhereNoneIsLost) {
  const Search two_shards(2, 2);
  EXPECT_EQ(two_shards.mistake(), "");
  EXPECT_GT(two_shards.states(), 10000U);
  EXPECT_GT(two_shards.verdicts(), 100U);
  const Search three_shards(3, 1);
  EXPECT_EQ(three_shards.mistake(), "");
  EXPECT_GT(three_shards.states(), 10000U);
  EXPECT_GT(three_shards.verdicts(), 100U);
}

}  // namespace
}  // namespace order_proc::core
