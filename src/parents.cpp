// Direct access finds a parent by the index of the primary key and locks it when that needs no
// waiting; what else there is to a row (locked, updated or deleted meanwhile) is left to the query
// that RI itself would run. Either way rows are locked by id, ascending: who deletes orders in that
// sequence is waited for, not met in a deadlock.
//
// Memory: the caller's, 8 bytes an id that the query is asked for. An ERROR leaves buffers and
// snapshots to the resource owner.
#include "parents.hpp"

#include "fast_path_facts.hpp"
#include "pg/arrays.hpp"
#include "pg/compat.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

/// Looked up at once: bounds the memory of a result.
constexpr std::size_t ids_per_query = 20000;

/// Walked through at once, or probed one by one.
constexpr std::size_t ids_per_walk = 1000;
constexpr uint64 rows_walked_for_one = 8;

/// A table that others inherit from is asked alone, a partitioned one with its partitions.
struct Lookup {
  pg::Statement plain;
  pg::Statement partitioned;
};

Lookup orders_lookup{pg::Statement{"SELECT p.id FROM ONLY order_store.orders AS p "
                                   "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                   INT8ARRAYOID},
                     pg::Statement{"SELECT p.id FROM order_store.orders AS p "
                                   "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                   INT8ARRAYOID}};
Lookup customers_lookup{pg::Statement{"SELECT p.id FROM ONLY order_store.customers AS p "
                                      "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                      INT8ARRAYOID},
                        pg::Statement{"SELECT p.id FROM order_store.customers AS p "
                                      "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                      INT8ARRAYOID}};

/// A table of parents, and how its ids lie.
struct Parents {
  Oid table;
  const TableFacts& facts;
  bool direct;  ///< direct access may be taken
  Lookup& lookup;
  int64 spacing;  ///< of ids that were made one after the other
};

/// Asks for the ids, which marks those that are there.
void lock_by_query(const Store& store, const Parents& parents, std::span<const int64> ids,
                   bool* known) {
  pg::Statement& statement = get_rel_relkind(parents.table) == RELKIND_PARTITIONED_TABLE
                                 ? parents.lookup.partitioned
                                 : parents.lookup.plain;
  pg::with_spi([&] {
    const Datum array =
        pg::make_array<int64>(ids.size(), INT8OID, [&](std::size_t i) { return ids[i]; });
    const uint64 count = pg::as_user(table_owner(parents.table), [&] {
      return statement.run(store.layout.index, {pg::Value(array)});
    });
    for (uint64 row = 0; row < count; ++row) {
      const int64 id = DatumGetInt64(pg::result(row, 0).datum);
      const auto at = std::lower_bound(ids.begin(), ids.end(), id);
      if (at != ids.end() && *at == id) known[at - ids.begin()] = true;
    }
  });
}

/// A direct access in progress.
struct Access {
  const Store& store;
  const Parents& parents;
  Relation table;
  IndexScanDesc scan;
  TupleTableSlot* slot;
  Snapshot snapshot;
};

/// Locks the row in the slot; marks it unless it is gone by then.
void lock_row(const Access& access, const int64& id, bool* known) {
  TM_FailureData failure;
  ItemPointerData row = access.slot->tts_tid;
  const TM_Result result = table_tuple_lock(
      access.table, &row, access.snapshot, access.slot, access.snapshot->curcid, LockTupleKeyShare,
      LockWaitSkip, TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS, &failure);
  if (result == TM_Ok)
    *known = true;
  else
    lock_by_query(access.store, access.parents, {&id, 1}, known);
}

void start_scan(const Access& access, int64 least, int64 most) {
  std::array<ScanKeyData, 2> keys;
  ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(least));
  ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(most));
  index_rescan(access.scan, keys.data(), 2, nullptr, 0);
}

/// Locks the ids among the rows from the first to the last id.
void lock_by_walking(const Access& access, std::span<const int64> ids, bool* known) {
  const AttrNumber id_column = access.parents.facts.columns[0];
  std::size_t at = 0;
  start_scan(access, ids.front(), ids.back());
  while (index_getnext_slot(access.scan, ForwardScanDirection, access.slot)) {
    bool null;
    const int64 id = DatumGetInt64(slot_getattr(access.slot, id_column, &null));
    while (at < ids.size() && ids[at] < id) ++at;
    if (at < ids.size() && ids[at] == id) lock_row(access, ids[at], &known[at]);
  }
}

void lock_by_probing(const Access& access, std::span<const int64> ids, bool* known) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    start_scan(access, ids[i], ids[i]);
    if (index_getnext_slot(access.scan, ForwardScanDirection, access.slot))
      lock_row(access, ids[i], &known[i]);
  }
}

/// Whether few other rows lie between the ids. SERIALIZABLE must not read what nobody asked for.
bool lie_close(const Parents& parents, std::span<const int64> ids) {
  const uint64 span = static_cast<uint64>(ids.back()) - static_cast<uint64>(ids.front());
  return !IsolationIsSerializable() &&
         span / static_cast<uint64>(parents.spacing) < rows_walked_for_one * ids.size();
}

/// With the snapshot that the trigger of a foreign key would take, and so the query.
void lock_directly(const Store& store, const Parents& parents, std::span<const int64> ids,
                   bool* known) {
  const Relation table = table_open(parents.table, NoLock);
  const Relation index = index_open(parents.facts.primary_key, AccessShareLock);
  TupleTableSlot* const slot = table_slot_create(table, nullptr);
  CommandCounterIncrement();
  PushActiveSnapshot(GetTransactionSnapshot());
  const Snapshot snapshot = GetActiveSnapshot();
  const Access access{store, parents, table, pg::index_begin_scan(table, index, snapshot, 2),
                      slot,  snapshot};
  for (std::size_t first = 0; first < ids.size(); first += ids_per_walk) {
    CHECK_FOR_INTERRUPTS();
    const auto some = ids.subspan(first, std::min(ids_per_walk, ids.size() - first));
    if (lie_close(parents, some))
      lock_by_walking(access, some, known + first);
    else
      lock_by_probing(access, some, known + first);
  }
  index_endscan(access.scan);
  PopActiveSnapshot();
  ExecDropSingleTupleTableSlot(slot);
  index_close(index, AccessShareLock);
  table_close(table, NoLock);
}

void lock_rows(const Store& store, const Parents& parents, std::span<const int64> ids,
               bool* known) {
  std::fill_n(known, ids.size(), false);
  if (ids.empty()) return;
  if (parents.direct) return lock_directly(store, parents, ids, known);
  for (std::size_t first = 0; first < ids.size(); first += ids_per_query) {
    CHECK_FOR_INTERRUPTS();
    const std::size_t count = std::min(ids_per_query, ids.size() - first);
    lock_by_query(store, parents, ids.subspan(first, count), known + first);
  }
}

}  // namespace

void lock_orders(const Store& store, std::span<const int64> ids, bool* known) {
  const Facts& facts = fast_path_facts(store);
  lock_rows(store,
            {store.table(Table::orders), facts.orders,
             lock_obstacle(store, facts, facts.orders) == nullptr, orders_lookup, core::slot_count},
            ids, known);
}

void lock_customers(const Store& store, std::span<const int64> ids, bool* known) {
  const Facts& facts = fast_path_facts(store);
  lock_rows(store,
            {store.table(Table::customers), facts.customers,
             lock_obstacle(store, facts, facts.customers) == nullptr, customers_lookup, 1},
            ids, known);
}

}  // namespace order_proc
