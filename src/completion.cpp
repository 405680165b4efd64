// Transactions that the shards decided, and of which nothing is known here: their receipts are all
// there is. When each of the shards has one, all have committed; a shard that has none, and nothing
// prepared, while another has one has lost its part.
//
// Receipts are forgotten in steps that nobody can take for a loss, whatever dies in between, and
// however many are at it; see core/lost_parts.hpp.
#include "core/lost_parts.hpp"
#include "failpoints.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "receipts.hpp"
#include "remote/pipeline.hpp"
#include "resolver.hpp"

namespace order_proc {

namespace {

/// A listed receipt and where.
struct Entry {
  ListedReceipt* receipt;
  int shard_id;
};

/// A transaction of which there are receipts.
struct Transaction {
  const char* base;
  core::Gid numbers;
  int64 key;
  bool closed;
  bool failed;  ///< a step towards forgetting it
};

using Shards = std::span<const std::uint16_t>;

Shards deciders_of(const Transaction& transaction) {
  return core::deciders_of(transaction.numbers);
}

Shards first_of(const Transaction& transaction) {
  return deciders_of(transaction).first(1);
}

Shards others_of(const Transaction& transaction) {
  return deciders_of(transaction).subspan(1);
}

struct Transactions {
  Transaction* list;
  std::size_t count;
  std::span<Transaction> span() const { return {list, count}; }
};

Transactions room_for(std::size_t most) {
  return {
      static_cast<Transaction*>(palloc_extended(sizeof(Transaction) * (most + 1), MCXT_ALLOC_HUGE)),
      0};
}

int compare_entries(const void* a, const void* b, void*) {
  return strcmp(static_cast<const Entry*>(a)->receipt->base,
                static_cast<const Entry*>(b)->receipt->base);
}

std::span<Entry> sort_receipts(std::span<ShardView> views) {
  std::size_t count = 0;
  for (const ShardView& view : views) count += view.receipts.size();
  auto* const entries =
      static_cast<Entry*>(palloc_extended(sizeof(Entry) * (count + 1), MCXT_ALLOC_HUGE));
  count = 0;
  for (ShardView& view : views)
    for (ListedReceipt& receipt : view.receipts)
      if (std::string_view(receipt.base).starts_with(core::decided_gid_prefix))
        entries[count++] = {&receipt, view.target.shard_id};
  qsort_interruptible(entries, count, sizeof(Entry), compare_entries, nullptr);
  return {entries, count};
}

/// Calls `take` with the receipts of each transaction.
template <typename F>
void for_each_transaction(std::span<Entry> entries, F&& take) {
  while (!entries.empty()) {
    CHECK_FOR_INTERRUPTS();
    std::size_t same = 1;
    while (same < entries.size() && compare_entries(&entries[0], &entries[same], nullptr) == 0)
      ++same;
    take(entries.first(same));
    entries = entries.subspan(same);
  }
}

bool among(std::span<const Entry> proved, int shard) {
  return std::any_of(proved.begin(), proved.end(), [&](const Entry& entry) {
    return entry.shard_id == shard && entry.receipt->proved;
  });
}

/// Those that all of their shards have committed, and those that need a closer look.
struct Found {
  Transactions complete;
  Transactions incomplete;
};

/// Marks proved receipts. What has a row in the commit log is left to it.
Found look_through(const Store& store, const Cluster& cluster, std::span<Entry> entries) {
  auto** const bases = static_cast<const char**>(
      palloc_extended(sizeof(char*) * (entries.size() + 1), MCXT_ALLOC_HUGE));
  std::size_t count = 0;
  for_each_transaction(entries,
                       [&](std::span<Entry> parts) { bases[count++] = parts[0].receipt->base; });
  const auto kept = find_decisions(store, {bases, count});
  Found found{room_for(count), room_for(count)};
  for_each_transaction(entries, [&](std::span<Entry> parts) {
    const char* const base = parts[0].receipt->base;
    const auto numbers = numbers_of(base);
    if (!numbers || is_among(kept, base)) return;
    Transaction transaction{base, *numbers, receipt_key(cluster, base), false, false};
    bool proved = false;
    for (const Entry& part : parts) {
      const bool closed = part.receipt->key == closed_key(transaction.key);
      part.receipt->proved = closed || part.receipt->key == transaction.key;
      proved |= part.receipt->proved;
      transaction.closed |= closed;
    }
    if (!proved) return;
    const auto deciders = deciders_of(transaction);
    const bool complete =
        transaction.closed || std::all_of(deciders.begin(), deciders.end(),
                                          [&](int shard) { return among(parts, shard); });
    Transactions& list = complete ? found.complete : found.incomplete;
    list.list[list.count++] = transaction;
  });
  return found;
}

// --- forgetting --------------------------------------------------------------------------------

/// One step on all shards at once: `shards(transaction)` are those that take it for a transaction.
/// Where one of them does not, the transaction has failed.
template <typename F>
void step(std::span<ShardView> views, std::span<Transaction> transactions, Change change,
          int patience, F&& shards) {
  const auto changes = begin_changes(views);
  const auto for_each_view = [&](Transaction& transaction, auto&& use) {
    for (const int shard : shards(std::as_const(transaction))) {
      const ShardView* const view = view_of(views, shard);
      if (view == nullptr || view->connection == nullptr)
        transaction.failed = true;
      else
        use(static_cast<std::size_t>(view - views.data()));
    }
  };
  for (Transaction& transaction : transactions) {
    CHECK_FOR_INTERRUPTS();
    if (transaction.failed) continue;
    for_each_view(transaction, [&](std::size_t at) {
      add_to_array(changes[at].bases, transaction.base);
      if (change == Change::close)
        add_to_array(changes[at].keys, psprintf(INT64_FORMAT, transaction.key));
    });
  }
  change_receipts(views, changes, change, patience);
  // Those of a shard that failed.
  for (Transaction& transaction : transactions) for_each_view(transaction, [](std::size_t) {});
}

void forget(std::span<ShardView> views, std::span<Transaction> complete, int patience) {
  step(views, complete, Change::close, patience, [](const Transaction& transaction) {
    return transaction.closed ? Shards{} : first_of(transaction);
  });
  ORDER_PROC_FAILPOINT("forget_first_closed");
  step(views, complete, Change::remove, patience, others_of);
  ORDER_PROC_FAILPOINT("forget_others_removed");
  step(views, complete, Change::remove, patience, first_of);
}

// --- what is lost ------------------------------------------------------------------------------

/// Three looks for receipts, one after the other.
using Looks = std::array<std::span<const Receipt>, 3>;

/// Shards that have lost the transaction, in the caller's array.
std::span<int32> lost_by(const Transaction& transaction, const Looks& looks,
                         std::span<int32> room) {
  const auto deciders = deciders_of(transaction);
  std::array<std::array<core::ReceiptState, core::most_deciders>, 3> states;
  for (std::size_t look = 0; look < looks.size(); ++look)
    for (std::size_t at = 0; at < deciders.size(); ++at) {
      const Receipt* const receipt = receipt_of(looks[look], transaction.base, deciders[at]);
      states[look][at] = receipt == nullptr ? core::ReceiptState::none
                         : receipt->closed  ? core::ReceiptState::closed
                                            : core::ReceiptState::open;
    }
  const auto part = [&](std::size_t look) {
    return core::ReceiptLook(states[look]).first(deciders.size());
  };
  const std::array<core::ReceiptLook, 3> parts{part(0), part(1), part(2)};
  std::size_t count = 0;
  for (std::size_t at = 0; at < deciders.size(); ++at)
    if (core::has_lost(parts, at)) room[count++] = deciders[at];
  return room.first(count);
}

/// Whether it is known of all its shards that they do not have it prepared.
bool is_over(const Transaction& transaction, std::span<const ShardView> views,
             std::span<const Look> looks) {
  const auto deciders = deciders_of(transaction);
  return std::all_of(deciders.begin(), deciders.end(), [&](int shard) {
    const ShardView* const view = view_of(views, shard);
    if (view == nullptr || view->connection == nullptr) return false;
    const Look& look = looks[static_cast<std::size_t>(view - views.data())];
    return look.all && !is_among(look.bases, transaction.base);
  });
}

/// The receipts come behind what is prepared: what was decided, and is not prepared any more, has
/// been committed.
int tell_lost(const Store& store, const Cluster& cluster, std::span<ShardView> views,
              std::span<const Transaction> incomplete, const pg::ResultSet* results, int patience) {
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (incomplete.size() + 1)));
  std::size_t count = 0;
  for (const Transaction& transaction : incomplete)
    if (!is_running(transaction.numbers)) bases[count++] = transaction.base;
  if (count == 0) return 0;
  const auto prepared = look_again(cluster, views, patience);
  Looks looks;
  for (auto& look : looks) look = find_receipts(cluster, views, {bases, count}, patience);
  const auto asked = sort_texts({bases, count});
  for (const Transaction& transaction : incomplete) {
    CHECK_FOR_INTERRUPTS();
    if (!is_among(asked, transaction.base) || !is_over(transaction, views, prepared)) continue;
    std::array<int32, core::most_deciders> room;
    const auto lost = lost_by(transaction, looks, room);
    if (lost.empty()) continue;
    std::array<int32, core::most_deciders> all;
    const auto deciders = deciders_of(transaction);
    std::copy(deciders.begin(), deciders.end(), all.begin());
    tell_damage(store, {transaction.base, true, std::span(all).first(deciders.size())}, false, lost,
                results);
  }
  return static_cast<int>(count);
}

}  // namespace

int complete_by_receipts(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                         const pg::ResultSet* results, int patience) {
  const auto entries = sort_receipts(views);
  if (entries.empty() || !store.layout.has_receipts()) return 0;
  const Found found = look_through(store, cluster, entries);
  forget(views, found.complete.span(), patience);
  return tell_lost(store, cluster, views, found.incomplete.span(), results, patience);
}

void close_receipts(const Cluster& cluster, std::span<ShardView> views,
                    std::span<const char* const> bases, int patience) {
  Transactions transactions = room_for(bases.size());
  for (const char* const base : bases)
    if (const auto numbers = numbers_of(base))
      transactions.list[transactions.count++] = {base, *numbers, receipt_key(cluster, base), false,
                                                 false};
  step(views, transactions.span(), Change::close, patience, deciders_of);
}

}  // namespace order_proc
