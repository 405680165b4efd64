// Reading an order by its primary key and its items by theirs, with the active snapshot, straight
// into JSON.
#include "core/json.hpp"
#include "fast_path.hpp"
#include "fast_path_facts.hpp"
#include "items_json.hpp"
#include "pg/compat.hpp"
#include "pg/srf.hpp"

namespace order_proc {

namespace {

/// Calls `use` for each row of `table` whose leading key column equals `value`, in the order of the
/// key.
template <typename F>
bool for_each_row(Oid table_oid, Oid index_oid, int64 value, F&& use) {
  static_assert(pg::Jumpable<std::remove_reference_t<F>>);
  const Relation table = table_open(table_oid, NoLock);
  const Relation index = index_open(index_oid, AccessShareLock);
  TupleTableSlot* const slot = table_slot_create(table, nullptr);
  const IndexScanDesc scan = pg::index_begin_scan(table, index, GetActiveSnapshot(), 1);
  ScanKeyData key;
  ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(value));
  index_rescan(scan, &key, 1, nullptr, 0);
  bool found = false;
  while (index_getnext_slot(scan, ForwardScanDirection, slot)) {
    found = true;
    CHECK_FOR_INTERRUPTS();
    use(slot);
  }
  index_endscan(scan);
  ExecDropSingleTupleTableSlot(slot);
  index_close(index, AccessShareLock);
  table_close(table, NoLock);
  return found;
}

pg::Value column(TupleTableSlot* slot, AttrNumber number) {
  if (number == InvalidAttrNumber) return {};
  bool null;
  const Datum value = slot_getattr(slot, number, &null);
  return {value, null};
}

void read_items(const Store& store, const Facts& facts, int64 order_id, StringInfo json) {
  const auto& columns = facts.items.columns;
  begin_items(json);
  (void)for_each_row(
      store.table(Table::order_items), facts.items.primary_key, order_id,
      [&](TupleTableSlot* slot) {
        append_item(json, {column(slot, columns[i_id]), column(slot, columns[i_product_id]),
                           column(slot, columns[i_quantity]), column(slot, columns[i_price])});
      });
  end_items(json);
}

}  // namespace

bool may_read_fast(const Store& store) {
  return read_obstacle(store, fast_path_facts(store)) == nullptr;
}

bool read_order_fast(const Store& store, int64 order_id, StringInfo items, UseOrder use,
                     void* argument) {
  const Facts& facts = fast_path_facts(store);
  return for_each_row(store.table(Table::orders), facts.orders.primary_key, order_id,
                      [&](TupleTableSlot* slot) {
                        OrderRow row;
                        for (std::size_t i = 0; i < order_field_count; ++i) {
                          const pg::Value value = column(slot, facts.orders.columns[i]);
                          row.values[i] = value.datum;
                          row.nulls[i] = value.null;
                        }
                        if (items != nullptr) read_items(store, facts, order_id, items);
                        use(row, argument);
                      });
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_explain_fast_path);
Datum order_proc_explain_fast_path(PG_FUNCTION_ARGS) {
  const Store store = open_store_for_anyone();
  for (const Table table : {Table::customers, Table::orders, Table::order_items})
    LockRelationOid(store.table(table), AccessShareLock);
  const Facts& facts = fast_path_facts(store);
  const pg::ResultSet results(fcinfo);
  const auto add = [&](const char* operation, const char* obstacle) {
    results.add(
        {pg::Value(CStringGetTextDatum(operation)),
         pg::Value(CStringGetTextDatum(obstacle == nullptr ? "fast" : "executor")),
         pg::Value(CStringGetTextDatum(
             obstacle == nullptr ? "the tables are as the store made them, or changed in ways "
                                   "that direct access honours"
                                 : obstacle))});
  };
  add("create_order_with_items", create_obstacle(store, facts));
  add("batch_create_order_items", batch_obstacle(store, facts));
  for (const char* reader : {"get_order", "get_order_with_items", "get_orders"})
    add(reader, read_obstacle(store, facts));
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
