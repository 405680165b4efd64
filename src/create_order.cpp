// Requests are checked here, once for both paths; then the fast path writes the rows, or plain SQL
// as the caller does.
#include "create_order.hpp"

#include "amounts.hpp"
#include "fast_path.hpp"
#include "idempotency.hpp"
#include "names.hpp"
#include "order_writer.hpp"
#include "pg/arrays.hpp"
#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "routing.hpp"
#include "slots.hpp"
#include "statuses.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

const char* numeric_text(Datum value) {
  return DatumGetCString(DirectFunctionCall1(numeric_out, value));
}

[[noreturn]] void bad_quantity(std::size_t item, int32 quantity) {
  ereport(ERROR, errcode(ERRCODE_CHECK_VIOLATION),
          errmsg("quantity must be positive: %d", quantity),
          errdetail("Item %zu of the order.", item + 1),
          errhint("Leave the item out, or give at least 1."),
          err_generic_string(PG_DIAG_SCHEMA_NAME, "order_store"),
          err_generic_string(PG_DIAG_TABLE_NAME, "order_items"),
          err_generic_string(PG_DIAG_CONSTRAINT_NAME, "order_items_quantity_check"));
}

[[noreturn]] void bad_price(std::size_t item, Datum price) {
  ereport(ERROR, errcode(ERRCODE_CHECK_VIOLATION),
          errmsg("price must be a number and not negative: %s", pg::shown(numeric_text(price))),
          errdetail("Item %zu of the order.", item + 1), errhint("Give 0 for a present."),
          err_generic_string(PG_DIAG_SCHEMA_NAME, "order_store"),
          err_generic_string(PG_DIAG_TABLE_NAME, "order_items"),
          err_generic_string(PG_DIAG_CONSTRAINT_NAME, "order_items_price_check"));
}

[[noreturn]] void bad_total(Datum total) {
  ereport(
      ERROR, errcode(ERRCODE_CHECK_VIOLATION),
      errmsg("total_amount must be a number and not negative: %s", pg::shown(numeric_text(total))),
      errhint("Give NULL to have it summed up from the items."),
      err_generic_string(PG_DIAG_SCHEMA_NAME, "order_store"),
      err_generic_string(PG_DIAG_TABLE_NAME, "orders"),
      err_generic_string(PG_DIAG_CONSTRAINT_NAME, "orders_total_amount_check"));
}

[[noreturn]] void out_of_range(const char* name, Datum value, const char* type,
                               const char* detail) {
  ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
          errmsg("%s is out of range for %s: %s", name, type, pg::shown(numeric_text(value))),
          errdetail_internal("%s", detail), errhint("Split the order, or correct the amount."));
}

const char* type_text(int32 typmod) {
  return format_type_with_typemod(NUMERICOID, typmod);
}

Amount checked_price(const Store& store, std::size_t item, Datum price) {
  const AmountCheck check = check_amount(price, store.price_typmod);
  if (check.fault == AmountFault::none) return check.amount;
  if (check.fault != AmountFault::out_of_range) bad_price(item, price);
  out_of_range("price", price, type_text(store.price_typmod),
               psprintf("Item %zu of the order.", item + 1));
}

Datum checked_total(const Store& store, Datum total, const char* origin) {
  const AmountCheck check = check_amount(total, store.total_typmod);
  if (check.fault == AmountFault::none) return check.amount.stored;
  if (check.fault != AmountFault::out_of_range) bad_total(total);
  out_of_range("total_amount", total, type_text(store.total_typmod), origin);
}

void require_same_lengths(std::size_t products, std::size_t quantities, std::size_t prices) {
  if (products != quantities || products != prices)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("product_ids, quantities and prices must have the same length"),
            errdetail("They have %zu, %zu and %zu elements.", products, quantities, prices),
            errhint("Give one product_id, one quantity and one price per item."));
  if (products == 0)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("an order needs at least one item"),
            errdetail("product_ids, quantities and prices are empty."),
            errhint("Give one element of each per item."));
}

/// Checks all of the request; its prices are replaced by the stored ones.
NewOrder checked_order(const Store& store, const OrderRequest& request) {
  NewOrder order{};
  order.customer_id = request.customer_id;
  order.product_ids = request.product_ids;
  order.quantities = request.quantities;
  order.notes = request.notes;
  const std::span<Datum> prices = request.prices;
  require_same_lengths(order.product_ids.size(), order.quantities.size(), prices.size());
  if (order.notes && !store.layout.has_notes())
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("orders have notes from layout 1.2 on, the store has %s",
                   core::layouts[store.layout.index].data()),
            errhint("ALTER EXTENSION order_proc UPDATE TO '1.2';"));
  order.status = status_for_new_order(store, request.status).value;
  Total total;
  for (std::size_t i = 0; i < prices.size(); ++i) {
    if ((i & 0xFFFF) == 0xFFFF) CHECK_FOR_INTERRUPTS();
    if (order.quantities[i] <= 0) bad_quantity(i, order.quantities[i]);
    const Amount price = checked_price(store, i, prices[i]);
    prices[i] = price.stored;
    total.add(order.quantities[i], price);
  }
  order.prices = prices;
  order.total_amount =
      request.total_amount
          ? checked_total(store, *request.total_amount, "It was given with the order.")
          : checked_total(store, total.sum(), "It is the sum of quantity * price over the items.");
  return order;
}

void append_bytes(StringInfo out, const void* bytes, std::size_t size) {
  const auto length = static_cast<uint64>(size);
  appendBinaryStringInfo(out, reinterpret_cast<const char*>(&length), sizeof length);
  appendBinaryStringInfo(out, static_cast<const char*>(bytes), static_cast<int>(size));
}

void append_text(StringInfo out, pg::Text value) {
  appendStringInfoChar(out, value ? '1' : '0');
  if (value) append_bytes(out, value.view().data(), value.view().size());
}

/// The same bytes for equal amounts.
void append_amount(StringInfo out, Datum amount) {
  const auto exact = pg::to_hundredths(amount);
  if (exact) return append_bytes(out, &exact->count, sizeof exact->count);
  const char* const text = numeric_normalize(DatumGetNumeric(amount));
  append_bytes(out, text, std::string_view(text).size());
}

/// SHA-256 of the request: each field with its length, amounts as they are stored.
Datum hash_of(const OrderRequest& request, const NewOrder& order) {
  StringInfoData bytes;
  initStringInfo(&bytes);
  bytes.len = VARHDRSZ;
  append_bytes(&bytes, &request.customer_id, sizeof request.customer_id);
  append_text(&bytes, request.status);
  appendStringInfoChar(&bytes, request.total_amount ? '1' : '0');
  if (request.total_amount) append_amount(&bytes, order.total_amount);
  append_bytes(&bytes, order.product_ids.data(), order.product_ids.size_bytes());
  append_bytes(&bytes, order.quantities.data(), order.quantities.size_bytes());
  for (const Datum price : order.prices) append_amount(&bytes, price);
  append_text(&bytes, order.notes);
  SET_VARSIZE(bytes.data, bytes.len);
  return DirectFunctionCall1(sha256_bytea, PointerGetDatum(bytes.data));
}

pg::Statement customer_of_order{
    "SELECT {customer_names}, c.email FROM order_store.customers AS c WHERE c.id "
    "OPERATOR(pg_catalog.=) $1",
    INT8OID};
pg::Statement insert_items{
    "INSERT INTO order_store.order_items (order_id, product_id, quantity, price) "
    "SELECT $1, u.product_id, u.quantity, u.price FROM ROWS FROM ("
    "pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS u(product_id, "
    "quantity, price)",
    INT8OID, INT8ARRAYOID, INT4ARRAYOID, NUMERICARRAYOID};

/// A text of the last result, in the current memory, which SPI_finish frees: for the next
/// statement.
pg::Text result_text(int column) {
  const pg::Value value = pg::result(0, column);
  return value.null ? pg::Text{} : pg::Text{DatumGetTextPCopy(value.datum)};
}

/// What a careful client would send: the customer's name and email, the order, its items.
int64 create_order_by_executor(const Store& store, const NewOrder& order) {
  const int64 id = next_order_id(store, order.customer_id);
  const Datum product_ids = pg::make_array<int64>(
      order.product_ids.size(), INT8OID, [&](std::size_t i) { return order.product_ids[i]; });
  const Datum quantities = pg::make_array<int32>(
      order.quantities.size(), INT4OID, [&](std::size_t i) { return order.quantities[i]; });
  const Datum prices = PointerGetDatum(construct_array(const_cast<Datum*>(order.prices.data()),
                                                       static_cast<int>(order.prices.size()),
                                                       NUMERICOID, -1, false, TYPALIGN_INT));
  pg::with_spi([&] {
    const bool known = customer_of_order.run(store.layout.index,
                                             {pg::Value(Int64GetDatum(order.customer_id))}) > 0;
    const pg::Text name = known ? full_name(result_text(0), result_text(1)) : pg::Text{};
    const pg::Text email = known ? result_text(2) : pg::Text{};
    insert_order_by_executor(store, {id, order.customer_id, order.status, order.total_amount,
                                     order.notes, name, email, std::nullopt});
    insert_items.run(store.layout.index, {pg::Value(Int64GetDatum(id)), pg::Value(product_ids),
                                          pg::Value(quantities), pg::Value(prices)});
  });
  return id;
}

/// Who may not make orders learns nothing of the keys either: the look for a key comes before any
/// INSERT.
void require_insert(const Store& store) {
  const Oid orders = store.table(Table::orders);
  const std::array columns{get_attnum(orders, "id"), get_attnum(orders, "customer_id"),
                           get_attnum(orders, "status"), get_attnum(orders, "total_amount")};
  if (!pg::caller_may({orders, ACL_INSERT, {}, columns}))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "orders");
}

int64 create_order(const Store& store, const NewOrder& order) {
  const auto id = create_order_fast(store, order);
  return id ? *id : create_order_by_executor(store, order);
}

}  // namespace

Store open_store_for_orders() {
  return open_store({{Table::customers, RowShareLock},
                     {Table::orders, RowExclusiveLock},
                     {Table::order_items, RowExclusiveLock}});
}

int64 make_order(const Store& store, const OrderRequest& request) {
  const NewOrder order = checked_order(store, request);
  require_slot(store, slot_of_customer(store, order.customer_id));
  if (!request.idempotency_key) return create_order(store, order);
  check_key(request.idempotency_key);
  require_insert(store);
  const IdempotencyKey once{order.customer_id, request.idempotency_key, hash_of(request, order)};
  return create_once(store, once, [&] { return create_order(store, order); });
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_create_order_with_items);
Datum order_proc_create_order_with_items(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  PreventCommandIfReadOnly("INSERT");
  PreventCommandIfParallelMode("INSERT");
  if (const Cluster* const cluster = routed(makes_orders))
    return call_on_shard(fcinfo, route_of_customer(*cluster, args.get_int64(0, "customer_id")),
                         remote::Use::write);
  const Store store = open_store_for_orders();
  OrderRequest request{};
  request.customer_id = args.get_int64(0, "customer_id");
  request.status = args.find_text(1);
  if (!args.null(2)) request.total_amount = args.datum(2, "total_amount");
  request.product_ids = args.get_int64s(3, "product_ids");
  request.quantities = args.get_int32s(4, "quantities");
  request.prices = args.get_numerics(5, "prices");
  request.notes = args.find_text(6);
  request.idempotency_key = args.find_text(7);
  PG_RETURN_INT64(make_order(store, request));
}

}  // extern "C"

}  // namespace order_proc
