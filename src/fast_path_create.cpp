// Making an order by direct table access: heap inserts and index entries, no executor, no RI
// trigger.
//
// Why the foreign keys hold: the customer's row is found and locked FOR KEY SHARE first, with the
// snapshot and the wait-free lock of the RI trigger's happy case; whatever else happens to it (not
// there, locked, updated meanwhile) sends the call to the executor before anything is written. The
// items' order was inserted by this very command, so nobody else can see, lock or delete it before
// the end of the transaction, and no user code runs in between: the rules see to that.
//
// Memory: the caller's (per tuple) context; formed tuples in slots that live with the facts.
#include "fast_path.hpp"
#include "fast_path_insert.hpp"
#include "names.hpp"
#include "pg/compat.hpp"
#include "slots.hpp"

namespace order_proc {

namespace {

/// Finds the customer and locks it FOR KEY SHARE, as the foreign key asks; false for anything but
/// the simple case.
bool lock_customer(Relation customers, Oid primary_key, int64 customer_id, TupleTableSlot* slot) {
  const Snapshot snapshot = GetActiveSnapshot();
  const Relation index = index_open(primary_key, AccessShareLock);
  const IndexScanDesc scan = pg::index_begin_scan(customers, index, snapshot, 1);
  ScanKeyData key;
  ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(customer_id));
  index_rescan(scan, &key, 1, nullptr, 0);
  bool locked = false;
  if (index_getnext_slot(scan, ForwardScanDirection, slot)) {
    TM_FailureData failure;
    ItemPointerData row = slot->tts_tid;
    locked = table_tuple_lock(customers, &row, snapshot, slot, snapshot->curcid, LockTupleKeyShare,
                              LockWaitSkip, TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS,
                              &failure) == TM_Ok &&
             !failure.traversed;
  }
  index_endscan(scan);
  index_close(index, AccessShareLock);
  return locked;
}

pg::Text slot_text(TupleTableSlot* slot, AttrNumber column) {
  if (column == InvalidAttrNumber) return {};
  bool null;
  const Datum value = slot_getattr(slot, column, &null);
  return null ? pg::Text{} : pg::Text{DatumGetTextPP(value)};
}

/// The order's row, with the customer's name and email as they are now.
OrderValues order_values(const Facts& facts, const NewOrder& order, int64 id,
                         TupleTableSlot* customer) {
  const auto& columns = facts.customers.columns;
  const pg::Text name = columns[c_name] != InvalidAttrNumber
                            ? slot_text(customer, columns[c_name])
                            : full_name(slot_text(customer, columns[c_first_name]),
                                        slot_text(customer, columns[c_last_name]));
  return {id,
          order.customer_id,
          order.status,
          order.total_amount,
          order.notes,
          name,
          slot_text(customer, columns[c_email]),
          std::nullopt};
}

void insert_item_batch(Relation table, Facts& facts, const NewOrder& order, int64 order_id,
                       std::size_t first, std::size_t count) {
  const auto& columns = facts.items.columns;
  for (std::size_t i = 0; i < count; ++i) {
    TupleTableSlot* const row = item_slot(facts, i);
    begin_row(row, table);
    set_column(row, columns[i_order_id], Int64GetDatum(order_id));
    set_column(row, columns[i_id], Int64GetDatum(nextval_internal(facts.items.sequence, i == 0)));
    set_column(row, columns[i_product_id], Int64GetDatum(order.product_ids[first + i]));
    set_column(row, columns[i_quantity], Int32GetDatum(order.quantities[first + i]));
    set_column(row, columns[i_price], order.prices[first + i]);
    ExecStoreVirtualTuple(row);
    check_row(table, facts.items, facts.evaluation, row);
  }
  table_multi_insert(table, facts.item_slots.data(), static_cast<int>(count),
                     GetCurrentCommandId(true), 0, nullptr);
  insert_index_entries(table, facts.items, facts.evaluation, {facts.item_slots.data(), count});
  for (std::size_t i = 0; i < count; ++i) ExecClearTuple(facts.item_slots[i]);
}

void insert_items(Relation table, Facts& facts, const NewOrder& order, int64 order_id) {
  const std::size_t total = order.product_ids.size();
  const std::size_t batch_size = items_at_once(facts);
  if (total <= batch_size) return insert_item_batch(table, facts, order, order_id, 0, total);
  // What a batch allocates goes with it, or a million items would pile up.
  const MemoryContext batch =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc item batch", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext saved = MemoryContextSwitchTo(batch);
  for (std::size_t first = 0; first < total; first += batch_size) {
    CHECK_FOR_INTERRUPTS();
    insert_item_batch(table, facts, order, order_id, first, std::min(batch_size, total - first));
    MemoryContextReset(batch);
  }
  MemoryContextSwitchTo(saved);
  MemoryContextDelete(batch);
}

}  // namespace

std::optional<int64> create_order_fast(const Store& store, const NewOrder& order) {
  Facts& facts = fast_path_facts(store);
  if (create_obstacle(store, facts) != nullptr) return std::nullopt;
  const Relation customers = table_open(store.table(Table::customers), NoLock);
  TupleTableSlot* const customer = table_slot_create(customers, nullptr);
  // As the RI trigger: READ COMMITTED looks anew, the stricter levels with the transaction's
  // snapshot.
  PushActiveSnapshot(GetTransactionSnapshot());
  std::optional<int64> id;
  if (lock_customer(customers, facts.customers.primary_key, order.customer_id, customer)) {
    id = next_order_id(store, order.customer_id);
    const Relation orders = table_open(store.table(Table::orders), NoLock);
    const Relation items = table_open(store.table(Table::order_items), NoLock);
    insert_order_row(orders, facts, order_values(facts, order, *id, customer));
    insert_items(items, facts, order, *id);
    table_close(items, NoLock);
    table_close(orders, NoLock);
    CommandCounterIncrement();
  }
  PopActiveSnapshot();
  ExecDropSingleTupleTableSlot(customer);
  table_close(customers, NoLock);
  return id;
}

}  // namespace order_proc
