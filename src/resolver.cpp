// A round: read the decisions, ask the shards, tell the fates of what is prepared, end it, and
// forget what is done. The sequence of looks matters: a transaction first leaves its lock, then
// nothing of it changes any more, so what is looked up later is final.
//
// Everything is idempotent; a round that raises in the middle is repeated by the next.
#include "resolver.hpp"

#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/replication.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"
#include "remote/wait.hpp"

extern "C" {
#include "storage/procarray.h"
}

namespace order_proc {

namespace {

pg::Statement which_decisions{
    "SELECT l.gid FROM pg_catalog.unnest($1) AS g (gid) JOIN order_store.commit_log AS l ON l.gid "
    "OPERATOR(pg_catalog.=) g.gid",
    TEXTARRAYOID};

int compare_texts(const void* a, const void* b, void*) {
  return strcmp(*static_cast<const char* const*>(a), *static_cast<const char* const*>(b));
}

bool text_less(const char* a, const char* b) {
  return strcmp(a, b) < 0;
}

/// Whether the decisions that can be seen outlive this server.
bool decisions_are_safe() {
  constexpr int longest = 200;
  const XLogRecPtr end = pg::log_end();
  XLogFlush(end);
  const remote::Deadline deadline = remote::after_milliseconds(longest);
  while (pg::lacks_standby(end, SYNCHRONOUS_COMMIT_ON)) {
    if (remote::passed(deadline)) return false;
    (void)remote::wait_ready({}, remote::after_milliseconds(5), remote::Interrupts::serve);
  }
  return true;
}

int count_in_doubt(std::span<const ShardView> views) {
  int count = 0;
  for (const ShardView& view : views)
    for (const Orphan& orphan : view.orphans)
      count += orphan.fate != Orphan::Fate::running && !orphan.settled ? 1 : 0;
  return count;
}

}  // namespace

bool is_running(const core::Gid& gid) {
  if (pg::is_locked(pg::LockKind::commit, gid.nonce)) return true;
  if (gid.decider_count > 0) return false;
  // One of a session with the library of version 1.7, which takes no lock.
  const FullTransactionId transaction = FullTransactionIdFromU64(gid.transaction);
  return FullTransactionIdPrecedes(transaction, ReadNextFullTransactionId()) &&
         TransactionIdIsInProgress(XidFromFullTransactionId(transaction));
}

bool may_tell(const pg::ResultSet* results, TimestampTz& told) {
  constexpr int interval = 60000;
  const TimestampTz now = GetCurrentTimestamp();
  if (results == nullptr && told != 0 && !TimestampDifferenceExceeds(told, now, interval))
    return false;
  told = now;
  return true;
}

std::span<const char* const> sort_texts(std::span<const char* const> texts) {
  auto** const sorted = static_cast<const char**>(palloc(sizeof(char*) * (texts.size() + 1)));
  std::copy(texts.begin(), texts.end(), sorted);
  qsort_interruptible(sorted, texts.size(), sizeof(char*), compare_texts, nullptr);
  return {sorted, texts.size()};
}

bool is_among(std::span<const char* const> sorted, const char* text) {
  return std::binary_search(sorted.begin(), sorted.end(), text, text_less);
}

Datum text_array(std::span<const char* const> texts) {
  auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * (texts.size() + 1)));
  for (std::size_t i = 0; i < texts.size(); ++i) values[i] = CStringGetTextDatum(texts[i]);
  return PointerGetDatum(
      construct_array(values, static_cast<int>(texts.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

std::span<const char* const> find_decisions(const Store& store,
                                            std::span<const char* const> bases) {
  if (bases.empty()) return {};
  const Datum array = text_array(bases);
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&]() -> std::span<const char* const> {
    const uint64 rows = pg::as_user(table_owner(store.table(Table::commit_log)),
                                    [&] { return which_decisions.run(0, {pg::Value(array)}); });
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    auto** const found = static_cast<const char**>(palloc(sizeof(char*) * (rows + 1)));
    for (uint64 row = 0; row < rows; ++row)
      found[row] = TextDatumGetCString(pg::result(row, 0).datum);
    MemoryContextSwitchTo(saved);
    std::sort(found, found + rows, text_less);
    return {found, rows};
  });
}

namespace {

/// Those that this server decides about.
void find_own_fates(const Store& store, const Cluster& cluster, std::span<ShardView> views) {
  std::size_t most = 0;
  for (const ShardView& view : views) most += view.orphans.size();
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (most + 1)));
  std::size_t count = 0;
  const auto own = static_cast<uint64>(cluster.coordinator_id);
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans) {
      if (orphan.numbers.coordinator == own && is_running(orphan.numbers))
        orphan.fate = Orphan::Fate::running;
      else
        bases[count++] = orphan.base;
    }
  // The look for the decision comes after the look for the transaction: what is over has left it.
  const auto decided = find_decisions(store, {bases, count});
  const uint32 timeline = remote::incarnation().timeline;
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans) {
      if (orphan.fate == Orphan::Fate::running) continue;
      const bool here = orphan.numbers.coordinator == own && timeline != 0 &&
                        (orphan.numbers.timeline == timeline || orphan.numbers.timeline == 0);
      if (is_among(decided, orphan.base))
        orphan.fate = Orphan::Fate::commit;
      else if (here && orphan.numbers.decider_count == 0)
        orphan.fate = Orphan::Fate::roll_back;
    }
}

}  // namespace

bool find_by_receipts(const Cluster& cluster, std::span<ShardView> views, int patience) {
  std::size_t most = 0;
  for (const ShardView& view : views) most += view.orphans.size();
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (most + 1)));
  std::size_t count = 0;
  for (const ShardView& view : views)
    for (const Orphan& orphan : view.orphans)
      if (orphan.fate == Orphan::Fate::unknown) bases[count++] = orphan.base;
  if (count == 0) return false;
  const auto receipts = find_receipts(cluster, views, {bases, count}, patience);
  bool any = false;
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans)
      if (orphan.fate == Orphan::Fate::unknown &&
          receipt_of(receipts, orphan.base, no_shard) != nullptr) {
        orphan.fate = Orphan::Fate::commit;
        any = true;
      }
  return any;
}

void find_fates(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                int patience) {
  find_own_fates(store, cluster, views);
  // Decided on another server, perhaps after the backup that this one comes from, or by the shards:
  // then one may have carried it out.
  (void)find_by_receipts(cluster, views, patience);
  if (!all_reached(views) || remote::incarnation().timeline == 0) return;
  const auto own = static_cast<uint64>(cluster.coordinator_id);
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans)
      if (orphan.fate == Orphan::Fate::unknown && orphan.numbers.coordinator == own &&
          orphan.numbers.decider_count == 0)
        orphan.fate = Orphan::Fate::roll_back;
}

/// Forgets receipts: for a worker those of a window, who calls has all looked through. How many
/// transactions are left for the next round.
int forget_windows(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                   const pg::ResultSet* results, int patience) {
  const MemoryContext memory =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc receipts", ALLOCSET_DEFAULT_SIZES);
  int left = 0;
  for (;;) {
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    left += complete_by_receipts(store, cluster, views, results, patience);
    forget_receipts(store, cluster, views, patience);
    MemoryContextSwitchTo(saved);
    for (ShardView& view : views)
      if (view.connection == nullptr) view.problem = pstrdup(view.problem);
    if (results == nullptr || !more_receipts()) break;
    MemoryContextReset(memory);
    CHECK_FOR_INTERRUPTS();
    MemoryContextSwitchTo(memory);
    view_more_receipts(views, patience);
    MemoryContextSwitchTo(saved);
  }
  for (ShardView& view : views) view.receipts = {};
  MemoryContextDelete(memory);
  return left;
}

Left settle_all(const Store& store, const Cluster& cluster, const pg::ResultSet* results,
                int patience) {
  // What goes by the log is done on shards when the log is committed.
  const bool log_was_changed = log_is_changed();
  if (results != nullptr) view_first_receipts();
  const std::span<Decision> decisions = list_decisions(store);
  const std::span<ShardView> views = view_shards(store, cluster, patience);
  find_fates(store, cluster, views, patience);
  Left left{};
  if (!decisions_are_safe()) {
    static TimestampTz told = 0;
    if (may_tell(results, told))
      ereport(WARNING, errmsg("decisions wait for a synchronous standby, and the shards for them"));
  } else {
    const bool firsts = ask_deciders(cluster, views, patience);
    settle(store, cluster, views, results, patience);
    if (firsts && find_by_receipts(cluster, views, patience))
      settle(store, cluster, views, results, patience);
    // Those of decisions that this round forgets stay for the next one: it may be rolled back.
    const bool forgetting =
        !log_was_changed && pg::acquire_lock_within(pg::LockKind::receipts, 0, patience);
    if (forgetting) left.decisions = forget_windows(store, cluster, views, results, patience);
    left.decisions +=
        close_decisions(store, cluster, decisions, views, !log_was_changed, results, patience);
    if (forgetting) pg::release_timed_lock(pg::LockKind::receipts, 0);
    left.more = more_receipts();
  }
  for (const ShardView& view : views) {
    if (view.connection != nullptr) continue;
    ++left.unreached;
    if (results != nullptr)
      ereport(WARNING, errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
              errmsg("shard %d (server \"%s\") cannot be asked: %s", view.target.shard_id,
                     remote::server_name(view.target.server), view.problem),
              errhint("What is prepared there stays so; call recover() again."));
  }
  left.in_doubt = count_in_doubt(views);
  return left;
}

}  // namespace order_proc
