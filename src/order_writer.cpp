#include "order_writer.hpp"

#include "fast_path.hpp"
#include "pg/spi.hpp"

namespace order_proc {

namespace {

pg::Statement insert_order{
    "INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, "
    "customer_email{notes_column}) "
    "VALUES ($1, $2, $3, $4, $5, $6{notes_value})",
    INT8OID,
    INT8OID,
    TEXTOID,
    NUMERICOID,
    TEXTOID,
    TEXTOID,
    TEXTOID};
pg::Statement insert_order_made_at{
    "INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, "
    "customer_email{notes_column}, created_at) VALUES ($1, $2, $3, $4, $5, $6{notes_value}, $8)",
    INT8OID,
    INT8OID,
    TEXTOID,
    NUMERICOID,
    TEXTOID,
    TEXTOID,
    TEXTOID,
    TIMESTAMPTZOID};

pg::Value value_of(pg::Text text) {
  return {text.datum(), !text};
}

}  // namespace

void insert_order_by_executor(const Store& store, const OrderValues& order) {
  const std::initializer_list<pg::Value> values{
      pg::Value(Int64GetDatum(order.id)),
      pg::Value(Int64GetDatum(order.customer_id)),
      pg::Value(PointerGetDatum(order.status)),
      pg::Value(order.total_amount),
      value_of(order.customer_name),
      value_of(order.customer_email),
      value_of(order.notes),
      {TimestampTzGetDatum(order.created_at.value_or(0)), !order.created_at}};
  // The column's own default applies where it is not named.
  if (order.created_at)
    insert_order_made_at.run(store.layout.index, values);
  else
    insert_order.run(store.layout.index, values);
}

void write_orders(const Store& store, std::span<const OrderValues> orders) {
  Facts& facts = fast_path_facts(store);
  const bool any_made_at = std::any_of(orders.begin(), orders.end(), [](const OrderValues& order) {
    return order.created_at.has_value();
  });
  if ((any_made_at ? create_made_at_obstacle(store, facts) : create_obstacle(store, facts)) !=
      nullptr) {
    pg::with_spi([&] {
      for (const OrderValues& order : orders) insert_order_by_executor(store, order);
    });
    return;
  }
  const Relation table = table_open(store.table(Table::orders), NoLock);
  for (const OrderValues& order : orders) insert_order_row(table, facts, order);
  table_close(table, NoLock);
  CommandCounterIncrement();
}

}  // namespace order_proc
