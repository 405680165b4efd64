// Writing a batch of an import: it looks for the orders' keys, leaves out those that are there
// already, and writes the others with their items and keys.
//
// Two imports at once take the locks of their keys in the order of the sort, which is the same for
// both; none is held while waiting for another transaction. Where a row may still be refused (a
// constraint or trigger of the user's), a batch runs in a savepoint and is halved until the order
// is alone.
#include "amounts.hpp"
#include "fast_path.hpp"
#include "import_batch.hpp"
#include "item_writer.hpp"
#include "names.hpp"
#include "order_writer.hpp"
#include "parents.hpp"
#include "pg/error.hpp"
#include "pg/savepoint.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "slots.hpp"
#include "statuses.hpp"

namespace order_proc {

namespace {

/// Locks the keys of all orders and looks for them; without locks again when somebody is busy with
/// one.
TransactionId look_for_keys(Load& load) {
  for (int i = 0; i < load.order_count; ++i) {
    Order& order = load.orders[static_cast<std::size_t>(i)];
    pg::acquire_lock(pg::LockKind::idempotency_key, lock_value(order.key));
    const KeyLook look = look_for(load.import->store, order.key);
    if (TransactionIdIsValid(look.busy)) {
      for (int held = 0; held <= i; ++held)
        pg::release_lock(pg::LockKind::idempotency_key,
                         lock_value(load.orders[static_cast<std::size_t>(held)].key));
      return look.busy;
    }
    order.fate = !look.found ? Fate::fresh : look.same_request ? Fate::known : Fate::reused;
  }
  return InvalidTransactionId;
}

void unlock_keys(const Load& load) {
  for (int i = 0; i < load.order_count; ++i)
    pg::release_lock(pg::LockKind::idempotency_key,
                     lock_value(load.orders[static_cast<std::size_t>(i)].key));
}

pg::Statement customers_of_batch{
    "SELECT c.id, {customer_names}, c.email FROM order_store.customers AS c "
    "WHERE c.id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY c.id USING OPERATOR(pg_catalog.<)",
    INT8ARRAYOID};
pg::Statement insert_keys{
    "INSERT INTO order_store.idempotency_keys (customer_id, key, order_id, request_hash) "
    "SELECT u.customer_id, u.key, u.order_id, u.request_hash FROM ROWS FROM "
    "(pg_catalog.unnest($1), "
    "pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) "
    "AS u(customer_id, key, order_id, request_hash)",
    INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, BYTEAARRAYOID};

Datum int64_array(Datum* values, int count) {
  return PointerGetDatum(
      construct_array(values, count, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
}

pg::Text result_text(uint64 row, int column) {
  const pg::Value value = pg::result(row, column);
  return value.null ? pg::Text{} : pg::Text{DatumGetTextPCopy(value.datum)};
}

struct CustomerName {
  int64 id;
  pg::Text name;
  pg::Text email;
};

/// Names and emails of the batch's customers, as the caller may read them; by id.
std::span<CustomerName> read_customers(const Load& load) {
  const MemoryContext memory = CurrentMemoryContext;
  auto* const names = static_cast<CustomerName*>(palloc(sizeof(CustomerName) * orders_per_batch));
  auto* const ids = static_cast<Datum*>(palloc(sizeof(Datum) * orders_per_batch));
  int count = 0;
  for (int i = 0; i < load.order_count; ++i) {
    const Order& order = load.orders[static_cast<std::size_t>(i)];
    if (order.fate == Fate::fresh) ids[count++] = Int64GetDatum(order.customer_id);
  }
  const uint64 found = pg::with_spi([&] {
    const Store& store = load.import->store;
    const uint64 rows =
        customers_of_batch.run(store.layout.index, {pg::Value(int64_array(ids, count))});
    // SPI's own memory goes with it.
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    for (uint64 row = 0; row < rows; ++row)
      names[row] = {DatumGetInt64(pg::result(row, 0).datum),
                    full_name(result_text(row, 1), result_text(row, 2)), result_text(row, 3)};
    MemoryContextSwitchTo(saved);
    return rows;
  });
  return {names, found};
}

const CustomerName* find_customer(std::span<const CustomerName> names, int64 id) {
  const auto at =
      std::lower_bound(names.begin(), names.end(), id,
                       [](const CustomerName& name, int64 wanted) { return name.id < wanted; });
  return at != names.end() && at->id == id ? &*at : nullptr;
}

OrderValues values_of(const Load& load, const Order& order, std::span<const CustomerName> names) {
  const Import& import = *load.import;
  const CustomerName* const customer = find_customer(names, order.customer_id);
  return {order.id,
          order.customer_id,
          order.status >= 0 ? import.statuses[order.status]
                            : status_for_new_order(import.store, {}).value,
          pg::from_hundredths(static_cast<int64>(order.total)),
          {},
          customer == nullptr ? pg::Text{} : customer->name,
          customer == nullptr ? pg::Text{} : customer->email,
          order.has_created_at ? std::optional(order.created_at) : std::nullopt};
}

/// The items of an order that did not stay in memory, a piece at a time through the rear of the
/// arrays, which is kept for that.
void write_spilled(Load& load, const Order& order) {
  constexpr std::size_t piece = items_per_batch;
  constexpr std::size_t start = spill_start;
  auto* const rows = static_cast<uint32*>(palloc(sizeof(uint32) * piece));
  for (std::size_t i = 0; i < piece; ++i) rows[i] = static_cast<uint32>(i);
  const auto write = [&](std::size_t count) {
    const ItemArrays items{{load.order_ids.data() + start, count},
                           {load.product_ids.data() + start, count},
                           {load.quantities.data() + start, count},
                           {load.stored_prices.data() + start, count}};
    write_items(load.import->store, items, {rows, count});
  };
  std::size_t count = 0;
  tuplestore_rescan(order.spilled);
  while (tuplestore_gettupleslot(order.spilled, true, false, load.import->spill_slot)) {
    const SortedLine line = line_in(load.import->spill_slot);
    load.order_ids[start + count] = order.id;
    load.product_ids[start + count] = line.data.product_id;
    load.quantities[start + count] = line.data.quantity;
    load.stored_prices[start + count] = pg::from_hundredths(line.data.price);
    if (++count == piece) {
      write(count);
      for (std::size_t i = 0; i < count; ++i) pfree(DatumGetPointer(load.stored_prices[start + i]));
      count = 0;
    }
  }
  write(count);
}

void write_keys(const Load& load, std::span<Order* const> orders) {
  const std::size_t count = orders.size();
  auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * count * 4));
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = Int64GetDatum(orders[i]->customer_id);
    values[count + i] = PointerGetDatum(orders[i]->order_ref);
    values[2 * count + i] = Int64GetDatum(orders[i]->id);
    values[3 * count + i] = orders[i]->key.request_hash;
  }
  const int n = static_cast<int>(count);
  const std::array arrays{
      int64_array(values, n),
      PointerGetDatum(construct_array(values + count, n, TEXTOID, -1, false, TYPALIGN_INT)),
      int64_array(values + 2 * count, n),
      PointerGetDatum(construct_array(values + 3 * count, n, BYTEAOID, -1, false, TYPALIGN_INT))};
  const Store& store = load.import->store;
  pg::with_spi([&] {
    pg::as_user(table_owner(store.table(Table::idempotency_keys)), [&] {
      insert_keys.run(store.layout.index, {pg::Value(arrays[0]), pg::Value(arrays[1]),
                                           pg::Value(arrays[2]), pg::Value(arrays[3])});
    });
  });
}

/// Writes some orders of the batch with their items and keys.
void write_together(Load& load, std::span<Order* const> orders,
                    std::span<const CustomerName> names) {
  auto* const values = static_cast<OrderValues*>(palloc(sizeof(OrderValues) * orders.size()));
  for (std::size_t i = 0; i < orders.size(); ++i) values[i] = values_of(load, *orders[i], names);
  write_orders(load.import->store, {values, orders.size()});
  std::size_t count = 0;
  auto* const rows = static_cast<uint32*>(palloc(sizeof(uint32) * (load.item_count + 1)));
  for (const Order* order : orders)
    for (std::size_t i = order->first_item; i < order->first_item + order->item_count; ++i) {
      load.order_ids[i] = order->id;
      load.stored_prices[i] = pg::from_hundredths(load.prices[i]);
      rows[count++] = static_cast<uint32>(i);
    }
  const ItemArrays items{{load.order_ids.data(), load.item_count},
                         {load.product_ids.data(), load.item_count},
                         {load.quantities.data(), load.item_count},
                         {load.stored_prices.data(), load.item_count}};
  write_items(load.import->store, items, {rows, count});
  for (const Order* order : orders)
    if (order->spilled != nullptr) write_spilled(load, *order);
  write_keys(load, orders);
}

/// Whether a row may be refused by something of the user's.
bool may_be_refused(const Store& store) {
  const Facts& facts = fast_path_facts(store);
  return create_obstacle(store, facts) != nullptr || batch_obstacle(store, facts) != nullptr ||
         facts.orders.row_by_row;
}

void write_halving(Load& load, std::span<Order* const> orders,
                   std::span<const CustomerName> names) {
  if (orders.empty()) return;
  CHECK_FOR_INTERRUPTS();
  if (load.all_or_nothing || !may_be_refused(load.import->store)) {
    write_together(load, orders, names);
  } else {
    ErrorData* const error = pg::in_savepoint([&] { write_together(load, orders, names); });
    if (error != nullptr) {
      if (!pg::caused_by_data(error)) ReThrowError(error);
      if (orders.size() == 1)
        return reject_order(load, *orders[0], error->sqlerrcode, error->message);
      FreeErrorData(error);
      const std::size_t half = orders.size() / 2;
      write_halving(load, orders.subspan(0, half), names);
      return write_halving(load, orders.subspan(half), names);
    }
  }
  load.import->counts.orders += static_cast<int64>(orders.size());
  for (const Order* order : orders) load.import->counts.items += order->count;
}

/// Code of the user's (a function in the statement that feeds the import, a trigger) may have
/// deleted a customer that was found and locked by this very transaction. Direct access does not
/// look at the foreign key, so the customers of a batch are looked up once more; orders without one
/// are rejected.
std::size_t lock_customers_again(Load& load, std::span<Order*> orders) {
  auto* const ids = static_cast<int64*>(palloc(sizeof(int64) * (orders.size() + 1)));
  for (std::size_t i = 0; i < orders.size(); ++i) ids[i] = orders[i]->customer_id;
  std::sort(ids, ids + orders.size());
  const std::span<const int64> distinct{ids, std::unique(ids, ids + orders.size())};
  auto* const known = static_cast<bool*>(palloc(distinct.size() + 1));
  lock_customers(load.import->store, distinct, known);
  std::size_t kept = 0;
  for (Order* const order : orders) {
    const auto at = std::lower_bound(distinct.begin(), distinct.end(), order->customer_id);
    if (known[at - distinct.begin()])
      orders[kept++] = order;
    else
      reject_order(load, *order, ERRCODE_FOREIGN_KEY_VIOLATION,
                   psprintf("customer " INT64_FORMAT " does not exist", order->customer_id));
  }
  return kept;
}

}  // namespace

void write_batch(Load& load) {
  if (load.order_count == 0) return;
  const MemoryContext saved = MemoryContextSwitchTo(load.memory);
  Import& import = *load.import;
  for (TransactionId busy; TransactionIdIsValid(busy = look_for_keys(load));) wait_for(busy);
  auto** const fresh = static_cast<Order**>(palloc(sizeof(Order*) * orders_per_batch));
  std::size_t count = 0;
  for (int i = 0; i < load.order_count; ++i) {
    Order& order = load.orders[static_cast<std::size_t>(i)];
    if (order.fate == Fate::fresh) {
      require_slot(import.store, slot_of_customer(import.store, order.customer_id));
      order.id = next_order_id(import.store, order.customer_id);
      fresh[count++] = &order;
    } else if (order.fate == Fate::known) {
      ++import.counts.known;
      if (load.outcomes != nullptr)
        load.outcomes->add({pg::Value(Int32GetDatum(order.number)), pg::Value(BoolGetDatum(true)),
                            pg::Value{}, pg::Value{}});
    } else {
      reject_order(load, order, pg::idempotency_key_reused, key_reused_message(order.key));
    }
  }
  count = lock_customers_again(load, {fresh, count});
  if (count > 0) write_halving(load, {fresh, count}, read_customers(load));
  unlock_keys(load);
  for (int i = 0; i < load.order_count; ++i)
    if (Tuplestorestate* const spilled = load.orders[static_cast<std::size_t>(i)].spilled)
      tuplestore_end(spilled);
  MemoryContextSwitchTo(saved);
  MemoryContextReset(load.memory);
  load.order_count = 0;
  load.item_count = 0;
  load.ended = 0;
  load.raw_bytes = 0;
}

}  // namespace order_proc
