// Direct access puts the rows into the heap a thousand at a time and remembers (order, id, tuple);
// the entries of the primary key then go in by key, which touches each index page once. One look-up
// of the distinct orders replaces a foreign key trigger per row. Sound because no code of the
// user's runs between a row's insertion and the end of the call: the rules of the fast path see to
// that.
//
// Memory: 24 bytes a row for the sort, 48 beyond 131,072 rows, in the (sub)transaction's context,
// freed before returning.
#include "item_writer.hpp"

#include "fast_path.hpp"
#include "fast_path_insert.hpp"
#include "pg/arrays.hpp"
#include "pg/compat.hpp"
#include "pg/sort.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

pg::Statement insert_rows{
    "INSERT INTO order_store.order_items (order_id, product_id, quantity, price) "
    "SELECT u.order_id, u.product_id, u.quantity, u.price FROM ROWS FROM (pg_catalog.unnest($1), "
    "pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) "
    "AS u(order_id, product_id, quantity, price)",
    INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, NUMERICARRAYOID};

template <typename T>
T* allocate(std::size_t count) {
  return static_cast<T*>(palloc_extended(std::max<Size>(count, 1) * sizeof(T), MCXT_ALLOC_HUGE));
}

/// Runs `body` in memory that goes with it, also when an ERROR ends the subtransaction.
template <typename F>
void in_scratch_memory(F&& body) {
  static_assert(pg::Jumpable<std::remove_reference_t<F>>);
  const MemoryContext memory =
      AllocSetContextCreate(CurTransactionContext, "order_proc items", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  body();
  MemoryContextSwitchTo(saved);
  MemoryContextDelete(memory);
}

/// An item in the heap, still to be put into the primary key.
struct KeyEntry {
  int64 order_id;
  int64 id;
  ItemPointerData tuple;
};

void fill_slot(TupleTableSlot* slot, Relation table, const Facts& facts, const ItemArrays& items,
               uint32 row, int64 id) {
  const auto& columns = facts.items.columns;
  begin_row(slot, table);
  set_column(slot, columns[i_order_id], Int64GetDatum(items.order_ids[row]));
  set_column(slot, columns[i_id], Int64GetDatum(id));
  set_column(slot, columns[i_product_id], Int64GetDatum(items.product_ids[row]));
  set_column(slot, columns[i_quantity], Int32GetDatum(items.quantities[row]));
  set_column(slot, columns[i_price], items.prices[row]);
  ExecStoreVirtualTuple(slot);
}

void insert_batch(Relation table, Facts& facts, const ItemArrays& items,
                  std::span<const uint32> rows, BulkInsertState bulk, KeyEntry* entries) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    TupleTableSlot* const slot = item_slot(facts, i);
    entries[i].order_id = items.order_ids[rows[i]];
    // The caller's right on the sequence is asked for once a batch.
    entries[i].id = nextval_internal(facts.items.sequence, i == 0);
    fill_slot(slot, table, facts, items, rows[i], entries[i].id);
    check_row(table, facts.items, facts.evaluation, slot);
  }
  table_multi_insert(table, facts.item_slots.data(), static_cast<int>(rows.size()),
                     GetCurrentCommandId(true), 0, bulk);
  insert_index_entries(table, facts.items, facts.evaluation, {facts.item_slots.data(), rows.size()},
                       facts.items.primary_key);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    entries[i].tuple = facts.item_slots[i]->tts_tid;
    ExecClearTuple(facts.item_slots[i]);
  }
}

void insert_keys(Relation table, const Facts& facts, std::span<KeyEntry> entries) {
  const auto by_key = [](const KeyEntry& a, const KeyEntry& b) {
    return a.order_id != b.order_id ? a.order_id < b.order_id : a.id < b.id;
  };
  pg::sort_values(entries, by_key);
  const Relation index = index_open(facts.items.primary_key, RowExclusiveLock);
  IndexInfo* info = nullptr;
  for (const IndexUse& use : facts.items.indexes)
    if (use.oid == facts.items.primary_key) info = use.info;
  std::array<bool, 2> nulls{};
  std::size_t done = 0;
  for (KeyEntry& entry : entries) {
    if ((++done & 0x3FF) == 0) CHECK_FOR_INTERRUPTS();
    std::array<Datum, 2> values{Int64GetDatum(entry.order_id), Int64GetDatum(entry.id)};
    (void)index_insert(index, values.data(), nulls.data(), &entry.tuple, table, UNIQUE_CHECK_YES,
                       false, info);
  }
  index_close(index, RowExclusiveLock);
}

void write_fast(const Store& store, Facts& facts, const ItemArrays& items,
                std::span<const uint32> rows) {
  const Relation table = table_open(store.table(Table::order_items), NoLock);
  KeyEntry* const entries = allocate<KeyEntry>(rows.size());
  const BulkInsertState bulk = GetBulkInsertState();
  for (std::size_t first = 0; first < rows.size(); first += item_batch_size) {
    CHECK_FOR_INTERRUPTS();
    const std::size_t count = std::min(item_batch_size, rows.size() - first);
    in_scratch_memory([&] {
      insert_batch(table, facts, items, rows.subspan(first, count), bulk, entries + first);
    });
  }
  insert_keys(table, facts, {entries, rows.size()});
  FreeBulkInsertState(bulk);
  table_close(table, NoLock);
  CommandCounterIncrement();
}

uint64 write_by_executor(const Store& store, const ItemArrays& items,
                         std::span<const uint32> rows) {
  const std::size_t count = rows.size();
  Datum* const prices = allocate<Datum>(count);
  for (std::size_t i = 0; i < count; ++i) prices[i] = items.prices[rows[i]];
  const std::array<Datum, 4> arrays{
      pg::make_array<int64>(count, INT8OID,
                            [&](std::size_t i) { return items.order_ids[rows[i]]; }),
      pg::make_array<int64>(count, INT8OID,
                            [&](std::size_t i) { return items.product_ids[rows[i]]; }),
      pg::make_array<int32>(count, INT4OID,
                            [&](std::size_t i) { return items.quantities[rows[i]]; }),
      PointerGetDatum(
          construct_array(prices, static_cast<int>(count), NUMERICOID, -1, false, TYPALIGN_INT))};
  return pg::with_spi([&] {
    return insert_rows.run(store.layout.index, {pg::Value(arrays[0]), pg::Value(arrays[1]),
                                                pg::Value(arrays[2]), pg::Value(arrays[3])});
  });
}

}  // namespace

int64 write_items(const Store& store, const ItemArrays& items, std::span<const uint32> rows) {
  if (rows.empty()) return 0;
  Facts& facts = fast_path_facts(store);
  const bool fast = batch_obstacle(store, facts) == nullptr;
  uint64 written = rows.size();
  in_scratch_memory([&] {
    if (fast)
      write_fast(store, facts, items, rows);
    else
      written = write_by_executor(store, items, rows);
  });
  return static_cast<int64>(written);
}

}  // namespace order_proc
