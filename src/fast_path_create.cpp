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
#include "fast_path_facts.hpp"
#include "names.hpp"
#include "pg/compat.hpp"
#include "slots.hpp"

namespace order_proc {

namespace {

constexpr std::size_t batch_size = 1000;  ///< item slots; one heap_multi_insert each

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

/// The row breaks a CHECK or NOT NULL: the executor's own words for it.
[[noreturn]] void raise_violation(Relation table, TupleTableSlot* slot) {
  EState* const estate = CreateExecutorState();
  ResultRelInfo* const target = makeNode(ResultRelInfo);
  InitResultRelInfo(target, table, 0, nullptr, 0);
  ExecConstraints(target, slot, estate);
  elog(ERROR, "constraints of \"%s\" hold for the executor only", RelationGetRelationName(table));
}

void check_row(Relation table, const TableFacts& facts, ExprContext* evaluation,
               TupleTableSlot* slot) {
  bool holds = true;
  if (!facts.checks.empty()) {
    evaluation->ecxt_scantuple = slot;
    for (ExprState* const check : facts.checks) holds = holds && ExecCheck(check, evaluation);
    ResetExprContext(evaluation);
  }
  for (int i = 0; facts.checks_nulls && i < facts.descriptor->natts; ++i)
    holds = holds && !(slot->tts_isnull[i] && TupleDescAttr(facts.descriptor, i)->attnotnull);
  if (!holds) raise_violation(table, slot);
}

/// Key values of the row in `slot`; false when it is not in a partial index.
bool index_values(const IndexUse& use, ExprContext* evaluation, TupleTableSlot* slot, Datum* values,
                  bool* nulls) {
  evaluation->ecxt_scantuple = slot;
  if (use.predicate != nullptr && !ExecQual(use.predicate, evaluation)) return false;
  int expression = 0;
  for (int i = 0; i < use.info->ii_NumIndexAttrs; ++i) {
    const AttrNumber column = use.info->ii_IndexAttrNumbers[i];
    if (column != 0)
      values[i] = slot_getattr(slot, column, &nulls[i]);
    else
      values[i] = ExecEvalExpr(static_cast<ExprState*>(list_nth(use.expressions, expression++)),
                               evaluation, &nulls[i]);
  }
  return true;
}

/// Index by index over all rows, so that each index is opened once and its pages stay warm.
void insert_index_entries(Relation table, const TableFacts& facts, ExprContext* evaluation,
                          std::span<TupleTableSlot*> slots) {
  std::array<Datum, INDEX_MAX_KEYS> values;
  std::array<bool, INDEX_MAX_KEYS> nulls;
  for (const IndexUse& use : facts.indexes) {
    const Relation index = index_open(use.oid, RowExclusiveLock);
    const IndexUniqueCheck unique = use.info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO;
    for (TupleTableSlot* const slot : slots) {
      if (!index_values(use, evaluation, slot, values.data(), nulls.data())) continue;
      (void)index_insert(index, values.data(), nulls.data(), &slot->tts_tid, table, unique, false,
                         use.info);
    }
    ResetExprContext(evaluation);
    index_close(index, RowExclusiveLock);
  }
}

void set(TupleTableSlot* slot, AttrNumber column, Datum value, bool null = false) {
  slot->tts_values[column - 1] = value;
  slot->tts_isnull[column - 1] = null;
}

/// All columns NULL: what the user added stays so.
void begin_row(TupleTableSlot* slot, Relation table) {
  ExecClearTuple(slot);
  std::fill_n(slot->tts_isnull, slot->tts_tupleDescriptor->natts, true);
  slot->tts_tableOid = RelationGetRelid(table);
}

pg::Text slot_text(TupleTableSlot* slot, AttrNumber column) {
  if (column == InvalidAttrNumber) return {};
  bool null;
  const Datum value = slot_getattr(slot, column, &null);
  return null ? pg::Text{} : pg::Text{DatumGetTextPP(value)};
}

/// Name and email as they are now, into the order's row.
void set_customer(TupleTableSlot* row, const TableFacts& orders, TupleTableSlot* customer,
                  const TableFacts& customers) {
  const pg::Text name = customers.columns[c_name] != InvalidAttrNumber
                            ? slot_text(customer, customers.columns[c_name])
                            : full_name(slot_text(customer, customers.columns[c_first_name]),
                                        slot_text(customer, customers.columns[c_last_name]));
  const pg::Text email = slot_text(customer, customers.columns[c_email]);
  set(row, orders.columns[o_customer_name], name.datum(), !name);
  set(row, orders.columns[o_customer_email], email.datum(), !email);
}

void insert_order(Relation table, Facts& facts, const NewOrder& order, int64 id,
                  TupleTableSlot* customer) {
  TupleTableSlot* const row = facts.order_slot;
  const auto& columns = facts.orders.columns;
  const Datum now = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
  begin_row(row, table);
  set(row, columns[o_id], Int64GetDatum(id));
  set(row, columns[o_customer_id], Int64GetDatum(order.customer_id));
  set(row, columns[o_status], PointerGetDatum(order.status));
  set(row, columns[o_total_amount], order.total_amount);
  if (columns[o_notes] != InvalidAttrNumber)
    set(row, columns[o_notes], order.notes.datum(), !order.notes);
  set_customer(row, facts.orders, customer, facts.customers);
  set(row, columns[o_created_at], now);
  set(row, columns[o_updated_at], now);
  ExecStoreVirtualTuple(row);
  check_row(table, facts.orders, facts.evaluation, row);
  table_tuple_insert(table, row, GetCurrentCommandId(true), 0, nullptr);
  insert_index_entries(table, facts.orders, facts.evaluation, {&facts.order_slot, 1});
  ExecClearTuple(row);
}

TupleTableSlot* item_slot(Facts& facts, std::size_t i) {
  if (facts.item_slot_count <= static_cast<int>(i)) {
    const MemoryContext saved = MemoryContextSwitchTo(facts.memory);
    facts.item_slots[i] = MakeSingleTupleTableSlot(facts.items.descriptor, &TTSOpsHeapTuple);
    MemoryContextSwitchTo(saved);
    facts.item_slot_count = static_cast<int>(i) + 1;
  }
  return facts.item_slots[i];
}

void insert_item_batch(Relation table, Facts& facts, const NewOrder& order, int64 order_id,
                       std::size_t first, std::size_t count) {
  const auto& columns = facts.items.columns;
  for (std::size_t i = 0; i < count; ++i) {
    TupleTableSlot* const row = item_slot(facts, i);
    begin_row(row, table);
    set(row, columns[i_order_id], Int64GetDatum(order_id));
    set(row, columns[i_id], Int64GetDatum(nextval_internal(facts.items.sequence, true)));
    set(row, columns[i_product_id], Int64GetDatum(order.product_ids[first + i]));
    set(row, columns[i_quantity], Int32GetDatum(order.quantities[first + i]));
    set(row, columns[i_price], order.prices[first + i]);
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
    insert_order(orders, facts, order, *id, customer);
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
