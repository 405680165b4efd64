// Reading orders by id, alone or with their items, with one snapshot: the one of the calling
// statement.
#include "fast_path.hpp"
#include "items_json.hpp"
#include "merge.hpp"
#include "pg/args.hpp"
#include "pg/record.hpp"
#include "pg/srf.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

constexpr std::array<std::string_view, order_field_count + 1> field_names{
    "id",         "customer_id",   "status",         "total_amount",
    "notes",      "customer_name", "customer_email", "created_at",
    "updated_at", "items"};
constexpr std::size_t items_field = order_field_count;

pg::Statement select_order{
    "SELECT {order_columns} FROM order_store.orders AS o WHERE o.id OPERATOR(pg_catalog.=) $1",
    INT8OID};
pg::Statement select_items{
    "SELECT i.id, i.product_id, i.quantity, i.price FROM order_store.order_items AS i "
    "WHERE i.order_id OPERATOR(pg_catalog.=) $1 ORDER BY i.id USING OPERATOR(pg_catalog.<)",
    INT8OID};

void read_items_by_executor(int64 order_id, StringInfo json) {
  const uint64 count = select_items.run(0, {pg::Value(Int64GetDatum(order_id))}, true);
  begin_items(json);
  for (uint64 row = 0; row < count; ++row)
    append_item(json,
                {pg::result(row, 0), pg::result(row, 1), pg::result(row, 2), pg::result(row, 3)});
  end_items(json);
}

bool read_order_by_executor(const Store& store, int64 order_id, StringInfo items, UseOrder use,
                            void* argument) {
  return pg::with_spi([&] {
    if (select_order.run(store.layout.index, {pg::Value(Int64GetDatum(order_id))}, true) == 0)
      return false;
    OrderRow row;
    for (std::size_t i = 0; i < order_field_count; ++i) {
      const pg::Value value = pg::result(0, static_cast<int>(i));
      row.values[i] = value.datum;
      row.nulls[i] = value.null;
    }
    if (items != nullptr) read_items_by_executor(order_id, items);
    use(row, argument);
    return true;
  });
}

/// Reads orders for one call of a function, by the path that the caller may take.
class Reader {
 public:
  explicit Reader(bool with_items)
      : store_(
            open_store({{Table::orders, AccessShareLock}, {Table::order_items, AccessShareLock}})),
        fast_(may_read_fast(store_)),
        with_items_(with_items) {
    if (with_items) {
      initStringInfo(&items_);
      items_.len = VARHDRSZ;
    }
  }

  /// Calls `use` with the values of order_with_items; false when there is no such order.
  template <typename F>
  bool read(int64 order_id, F&& use) {
    static_assert(pg::Jumpable<std::remove_reference_t<F>>);
    struct Scope {
      Reader* reader;
      std::remove_reference_t<F>* use;
    } scope{this, &use};
    const UseOrder complete = [](const OrderRow& row, void* argument) {
      auto& [reader, inner] = *static_cast<Scope*>(argument);
      std::array<Datum, order_field_count + 1> values;
      std::array<bool, order_field_count + 1> nulls;
      std::copy(row.values.begin(), row.values.end(), values.begin());
      std::copy(row.nulls.begin(), row.nulls.end(), nulls.begin());
      nulls[items_field] = !reader->with_items_;
      values[items_field] = reader->items_datum();
      (*inner)(values.data(), nulls.data());
    };
    items_.len = VARHDRSZ;
    StringInfo const items = with_items_ ? &items_ : nullptr;
    return fast_ ? read_order_fast(store_, order_id, items, complete, &scope)
                 : read_order_by_executor(store_, order_id, items, complete, &scope);
  }

 private:
  Datum items_datum() {
    if (!with_items_) return 0;
    SET_VARSIZE(items_.data, items_.len);
    return PointerGetDatum(items_.data);
  }

  Store store_;
  bool fast_;
  bool with_items_;
  StringInfoData items_{};  ///< a json datum in the making: room for the header, then the text
};

/// The one composite that get_order and get_order_with_items return, or NULL.
Datum get_one(FunctionCallInfo fcinfo, pg::RecordType& type, bool with_items) {
  const int64 order_id = pg::Args(fcinfo).get_int64(0, "order_id");
  type.prepare(fcinfo);
  const MemoryContext memory = CurrentMemoryContext;
  Reader reader(with_items);
  Datum record = 0;
  const bool found = reader.read(order_id, [&](const Datum* values, const bool* nulls) {
    // The executor path calls from SPI's memory.
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    record = type.form(values, nulls);
    MemoryContextSwitchTo(saved);
  });
  if (!found) PG_RETURN_NULL();
  return record;
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_get_order);
Datum order_proc_get_order(PG_FUNCTION_ARGS) {
  static pg::RecordType type{field_names};
  if (const Cluster* const cluster = routed(reads_orders))
    return call_on_shard(fcinfo,
                         route_of_order(*cluster, pg::Args(fcinfo).get_int64(0, "order_id")),
                         remote::Use::read);
  return get_one(fcinfo, type, false);
}

PG_FUNCTION_INFO_V1(order_proc_get_order_with_items);
Datum order_proc_get_order_with_items(PG_FUNCTION_ARGS) {
  static pg::RecordType type{field_names};
  if (const Cluster* const cluster = routed(reads_orders_and_items))
    return call_on_shard(fcinfo,
                         route_of_order(*cluster, pg::Args(fcinfo).get_int64(0, "order_id")),
                         remote::Use::read);
  return get_one(fcinfo, type, true);
}

PG_FUNCTION_INFO_V1(order_proc_get_orders);
Datum order_proc_get_orders(PG_FUNCTION_ARGS) {
  const std::span<const int64> order_ids = pg::Args(fcinfo).get_int64s(0, "order_ids");
  if (const Cluster* const cluster = routed(reads_orders_and_items))
    return merge_orders(fcinfo, *cluster, order_ids);
  const pg::ResultSet results(fcinfo);
  Reader reader(true);
  const MemoryContext row_memory =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc row", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext saved = MemoryContextSwitchTo(row_memory);
  for (const int64 order_id : order_ids) {
    CHECK_FOR_INTERRUPTS();
    (void)reader.read(order_id,
                      [&](const Datum* values, const bool* nulls) { results.add(values, nulls); });
    MemoryContextReset(row_memory);
  }
  MemoryContextSwitchTo(saved);
  MemoryContextDelete(row_memory);
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
