// Forgetting what all shards have carried out, and telling what one has lost.
#include "pg/args.hpp"
#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"
#include "remote/wait.hpp"
#include "resolver.hpp"

namespace order_proc {

namespace {

pg::Statement all_decisions{
    "SELECT l.gid, l.shard_ids FROM order_store.commit_log AS l ORDER BY l.decided_at "
    "USING OPERATOR(pg_catalog.<) LIMIT 5000"};
/// Those that another round is about to forget are left to it.
pg::Statement forget_decisions{
    "DELETE FROM order_store.commit_log AS l WHERE l.ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
    "SELECT k.ctid FROM pg_catalog.unnest($1) AS g (gid) JOIN order_store.commit_log AS k ON k.gid "
    "OPERATOR(pg_catalog.=) g.gid FOR UPDATE OF k SKIP LOCKED))",
    TEXTARRAYOID};
pg::Statement begin_damage{
    "INSERT INTO order_store.commit_log AS l (gid, shard_ids, damaged) VALUES ($1, $3, $2) ON "
    "CONFLICT (gid) DO UPDATE SET damaged = EXCLUDED.damaged WHERE l.damaged IS DISTINCT FROM "
    "EXCLUDED.damaged",
    TEXTOID, INT4ARRAYOID, INT4ARRAYOID};
pg::Statement note_damage{
    "UPDATE order_store.commit_log AS l SET damaged = $2 WHERE l.gid OPERATOR(pg_catalog.=) $1 AND "
    "l.damaged IS DISTINCT FROM $2",
    TEXTOID, INT4ARRAYOID};

/// What was changed must stay so before anything that goes by it.
constexpr const char* close_receipts_query =
    "UPDATE order_store.receipts AS r SET receipt_key = OPERATOR(pg_catalog.~) m.receipt_key FROM "
    "ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), "
    "pg_catalog.unnest($2::pg_catalog.int8[])) AS m (gid, receipt_key), "
    "pg_catalog.set_config('synchronous_commit', 'on', true) WHERE r.gid OPERATOR(pg_catalog.=) "
    "m.gid AND r.receipt_key OPERATOR(pg_catalog.=) m.receipt_key";
constexpr const char* remove_receipts_query =
    "DELETE FROM order_store.receipts AS r USING pg_catalog.set_config('synchronous_commit', 'on', "
    "true) WHERE r.gid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])";

/// Version 1.7 wrote none.
bool leaves_receipts(const char* base) {
  return !std::string_view(base).starts_with(core::old_gid_prefix);
}

enum class Part { carried_out, pending, missing };

/// What all shards have prepared, by base; a base may be there for several shards.
using Prepared = std::span<const Orphan* const>;

int compare_bases(const void* a, const void* b, void*) {
  return strcmp((*static_cast<const Orphan* const*>(a))->base,
                (*static_cast<const Orphan* const*>(b))->base);
}

Prepared sort_orphans(std::span<const ShardView> views) {
  std::size_t count = 0;
  for (const ShardView& view : views) count += view.orphans.size();
  auto** const sorted =
      static_cast<const Orphan**>(palloc_extended(sizeof(Orphan*) * (count + 1), MCXT_ALLOC_HUGE));
  count = 0;
  for (const ShardView& view : views)
    for (const Orphan& orphan : view.orphans) sorted[count++] = &orphan;
  qsort_interruptible(sorted, count, sizeof(Orphan*), compare_bases, nullptr);
  return {sorted, count};
}

/// Those of one transaction.
Prepared parts_of(Prepared prepared, const char* base) {
  const auto first = std::lower_bound(
      prepared.begin(), prepared.end(), base,
      [](const Orphan* orphan, const char* text) { return strcmp(orphan->base, text) < 0; });
  auto last = first;
  while (last != prepared.end() && strcmp((*last)->base, base) == 0) ++last;
  return {first, last};
}

/// What a shard has made of a decision; `missing` unless a receipt proves otherwise.
Part part_of(const Decision& decision, Prepared parts, const ShardView* view) {
  if (view == nullptr || view->connection == nullptr) return Part::pending;
  bool was_prepared = false;
  for (const Orphan* const orphan : parts) {
    if (orphan->shard_id != view->target.shard_id) continue;
    if (!orphan->settled) return Part::pending;
    was_prepared = true;
  }
  if (was_prepared) return Part::carried_out;
  if (view->more) return Part::pending;
  return leaves_receipts(decision.base) ? Part::missing : Part::carried_out;
}

/// Of a transaction that its shards decided: one that the next round would tell of anew if the row
/// were not there.
bool has_open_receipt(std::span<const Receipt> receipts, const Decision& decision) {
  const auto numbers = numbers_of(decision.base);
  return numbers && numbers->decider_count > 0 &&
         std::any_of(decision.shard_ids.begin(), decision.shard_ids.end(), [&](int32 shard) {
           const Receipt* const receipt = receipt_of(receipts, decision.base, shard);
           return receipt != nullptr && !receipt->closed;
         });
}

/// In ascending order, so that the same shards are equal.
pg::Value id_array(std::span<const int32> shards) {
  auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * (shards.size() + 1)));
  for (std::size_t i = 0; i < shards.size(); ++i) values[i] = Int32GetDatum(shards[i]);
  std::sort(values, values + shards.size());
  return pg::Value(PointerGetDatum(construct_array(values, static_cast<int>(shards.size()), INT4OID,
                                                   sizeof(int32), true, TYPALIGN_INT)));
}

/// Decided transactions among the receipts.
std::span<const char* const> decided_receipts(const Store& store,
                                              std::span<const ShardView> views) {
  std::size_t most = 0;
  for (const ShardView& view : views) most += view.receipts.size();
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (most + 1)));
  std::size_t count = 0;
  for (const ShardView& view : views)
    for (const ListedReceipt& receipt : view.receipts) bases[count++] = receipt.base;
  return find_decisions(store, {bases, count});
}

/// The transaction that changed the commit log last.
LocalTransactionId changed_in = InvalidLocalTransactionId;

}  // namespace

std::optional<core::Gid> numbers_of(const char* base) {
  return pg::core_call(core::parse_gid, std::string_view(psprintf("%s_0000", base)));
}

bool log_is_changed() {
  return changed_in == pg::local_transaction();
}

void tell_damage(const Store& store, const Decision& decision, bool has_row,
                 std::span<const int32> lost, const pg::ResultSet* results) {
  const pg::Value base(CStringGetTextDatum(decision.base));
  const pg::Value lost_ids = id_array(lost);
  const pg::Value all_ids = id_array(decision.shard_ids);
  const bool news = pg::with_spi([&] {
    return pg::as_user(table_owner(store.table(Table::commit_log)), [&] {
      return (has_row ? note_damage.run(0, {base, lost_ids})
                      : begin_damage.run(0, {base, lost_ids, all_ids})) > 0;
    });
  });
  if (news) changed_in = pg::local_transaction();
  if (results == nullptr && !news) return;
  for (const int32 shard : lost) report(results, decision.base, shard, "damaged");
}

std::span<Decision> list_decisions(const Store& store) {
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&]() -> std::span<Decision> {
    const uint64 rows = pg::as_user(table_owner(store.table(Table::commit_log)),
                                    [&] { return all_decisions.run(0, {}); });
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    auto* const list = static_cast<Decision*>(palloc(sizeof(Decision) * (rows + 1)));
    for (uint64 row = 0; row < rows; ++row) {
      ArrayType* const ids = DatumGetArrayTypePCopy(pg::result(row, 1).datum);
      const int count = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
      const char* const base = TextDatumGetCString(pg::result(row, 0).datum);
      const auto numbers = numbers_of(base);
      list[row] = {
          base,
          !(numbers && is_running(*numbers)),
          {reinterpret_cast<const int32*>(ARR_DATA_PTR(ids)), static_cast<std::size_t>(count)}};
    }
    MemoryContextSwitchTo(saved);
    return {list, rows};
  });
}

int close_decisions(const Store& store, const Cluster& cluster, std::span<Decision> decisions,
                    std::span<ShardView> views, bool committed, const pg::ResultSet* results,
                    int patience) {
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (decisions.size() + 1)));
  std::size_t count = 0;
  for (const Decision& decision : decisions)
    if (decision.over && leaves_receipts(decision.base)) bases[count++] = decision.base;
  const auto receipts = find_receipts(cluster, views, {bases, count}, patience);
  count = 0;
  for (const Decision& decision : decisions)
    if (decision.over) bases[count++] = decision.base;
  // Another round forgets a decision first, and then the receipts: where the row is gone by now
  // they may be, too.
  const auto still_there = find_decisions(store, {bases, count});
  const Prepared prepared = sort_orphans(views);
  std::size_t done = 0;
  auto** const damaged = static_cast<const char**>(palloc(sizeof(char*) * (decisions.size() + 1)));
  std::size_t damaged_count = 0;
  int left = 0;
  for (const Decision& decision : decisions) {
    CHECK_FOR_INTERRUPTS();
    if (!decision.over || !is_among(still_there, decision.base)) continue;
    const Prepared parts = parts_of(prepared, decision.base);
    auto* const missing =
        static_cast<int32*>(palloc(sizeof(int32) * (decision.shard_ids.size() + 1)));
    std::size_t missing_count = 0;
    bool pending = false;
    for (const int32 shard : decision.shard_ids) {
      const Part part = part_of(decision, parts, view_of(views, shard));
      pending |= part == Part::pending;
      if (part == Part::missing && receipt_of(receipts, decision.base, shard) == nullptr)
        missing[missing_count++] = shard;
    }
    if (missing_count > 0) {
      tell_damage(store, decision, true, {missing, missing_count}, results);
      if (has_open_receipt(receipts, decision)) damaged[damaged_count++] = decision.base;
    }
    pfree(missing);
    if (pending || missing_count > 0)
      ++left;
    else
      bases[done++] = decision.base;
  }
  if (done > 0) {
    pg::with_spi([&] {
      pg::as_user(table_owner(store.table(Table::commit_log)), [&] {
        forget_decisions.run(0, {pg::Value(text_array({bases, done}))});
      });
    });
    // Receipts go when the next round does not see the row: it must not come back by a crash.
    ForceSyncCommit();
    changed_in = pg::local_transaction();
  }
  // When somebody has mended it and deletes the row, its receipts tell nothing anew.
  if (damaged_count > 0 && committed)
    close_receipts(cluster, views, {damaged, damaged_count}, patience);
  return left;
}

/// Receipts whose decision was forgotten: all shards had committed. While something of the
/// transaction is prepared anywhere, or a shard is silent, they stay: they may be the only proof.
/// What is prepared is looked at behind the receipts: a shard may commit when others have prepared,
/// perhaps after they were looked at. And decisions behind that: a coordinator makes its own before
/// the shards commit.
void forget_receipts(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                     int patience) {
  if (std::all_of(views.begin(), views.end(), [](const ShardView& view) {
        return std::all_of(view.receipts.begin(), view.receipts.end(),
                           [](const ListedReceipt& receipt) { return receipt.proved; });
      }))
    return;
  const auto prepared = look_again(cluster, views, patience);
  if (!std::all_of(prepared.begin(), prepared.end(), [](const Look& look) { return look.all; }))
    return;
  const auto is_prepared = [&](const char* base) {
    return std::any_of(prepared.begin(), prepared.end(),
                       [&](const Look& look) { return is_among(look.bases, base); });
  };
  const auto decided = decided_receipts(store, views);
  const auto changes = begin_changes(views);
  for (std::size_t i = 0; i < views.size(); ++i)
    for (const auto& [base, key, proved] : views[i].receipts) {
      CHECK_FOR_INTERRUPTS();
      if (!proved && !is_among(decided, base) && !is_prepared(base))
        add_to_array(changes[i].bases, base);
    }
  change_receipts(views, changes, Change::remove, patience);
}

std::span<ReceiptChange> begin_changes(std::span<const ShardView> views) {
  auto* const changes =
      static_cast<ReceiptChange*>(palloc(sizeof(ReceiptChange) * (views.size() + 1)));
  for (std::size_t i = 0; i < views.size(); ++i) {
    initStringInfo(&changes[i].bases);
    initStringInfo(&changes[i].keys);
  }
  return {changes, views.size()};
}

void change_receipts(std::span<ShardView> views, std::span<ReceiptChange> changes, Change change,
                     int patience) {
  const bool closing = change == Change::close;
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (changes[i].bases.len == 0) continue;
    const std::array<const char*, 2> values{end_array(changes[i].bases),
                                            end_array(changes[i].keys)};
    remote::queue_text(*views[i].connection, closing ? close_receipts_query : remove_receipts_query,
                       remote::Step::call, {{}, std::span(values).first(closing ? 2 : 1), {}, {}});
    remote::send(*views[i].connection);
  }
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (changes[i].bases.len == 0) continue;
    remote::Connection& connection = *views[i].connection;
    while (remote::next_result(connection, remote::Interrupts::serve, deadline) != nullptr) {
    }
    if (connection.in_flight)
      give_up(views[i], "it does not answer");
    else if (connection.lost || connection.error != nullptr)
      give_up(views[i], pstrdup(remote::error_message(connection)));
  }
}

}  // namespace order_proc
