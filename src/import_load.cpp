// Loading: the sorted lines, order by order. Orders are gathered to batches; a batch looks for the
// orders' keys, leaves out those that are there already, and writes the others with their items and
// keys.
//
// Two imports at once take the locks of their keys in the order of the sort, which is the same for
// both; none is held while waiting for another transaction. Where a row may still be refused (a
// constraint or trigger of the user's), a batch runs in a savepoint and is halved until the order
// is alone.
#include "amounts.hpp"
#include "fast_path.hpp"
#include "idempotency.hpp"
#include "import.hpp"
#include "item_writer.hpp"
#include "names.hpp"
#include "order_writer.hpp"
#include "pg/copy_position.hpp"
#include "pg/error.hpp"
#include "pg/savepoint.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "slots.hpp"
#include "statuses.hpp"

namespace order_proc {

namespace {

constexpr int orders_per_batch = 500;
constexpr std::size_t items_per_batch = 16384;  ///< a batch is written when it has so many
constexpr std::size_t items_in_memory = 65536;  ///< of one order; more go to disk
constexpr std::size_t spill_start = items_per_batch + items_in_memory;
constexpr std::size_t most_items = spill_start + items_per_batch;
constexpr int spill_memory = 1024;  ///< kB

/// What the look for its key says of an order.
enum class Fate { fresh, known, reused };

/// An order in the making.
struct Order {
  text* order_ref;
  int64 customer_id;
  int64 count;     ///< good lines
  int64 bad_line;  ///< the first bad one, 0 for none; only with skip_order
  int128 total;    ///< hundredths
  uint64 sums[2];  ///< of the lines' hashes: lines in another order are the same request
  TimestampTz created_at;
  bool has_created_at;
  int16 status;
  std::size_t first_item;
  std::size_t item_count;    ///< of those in memory
  Tuplestorestate* spilled;  ///< the others, as the sort had them
  IdempotencyKey key;
  int64 id;
  Fate fate;
};

struct Load {
  Import* import;
  MemoryContext memory;  ///< of a batch
  int order_count;
  std::size_t item_count;
  std::array<Order, orders_per_batch> orders;
  std::array<int64, most_items> lines;
  std::array<int64, most_items> prices;  ///< hundredths
  // What item_writer takes.
  std::array<int64, most_items> order_ids;
  std::array<int64, most_items> product_ids;
  std::array<int32, most_items> quantities;
  std::array<Datum, most_items> stored_prices;
};

struct SortedLine {
  text* order_ref;
  int64 number;
  LineData data;
};

SortedLine line_in(TupleTableSlot* slot) {
  slot_getallattrs(slot);
  SortedLine line{DatumGetTextPP(slot->tts_values[1]), DatumGetInt64(slot->tts_values[2]), {}};
  std::copy_n(VARDATA_ANY(DatumGetByteaPP(slot->tts_values[3])), sizeof line.data,
              reinterpret_cast<char*>(&line.data));
  return line;
}

// Lines that turn out bad only now: written anew as CSV.

const char* rebuilt(const Import& import, std::string_view order_ref, const LineData& line) {
  StringInfoData text;
  initStringInfo(&text);
  const bool quote = order_ref.find_first_of(",\"\n\r") != std::string_view::npos;
  if (quote) appendStringInfoChar(&text, '"');
  for (const char c : order_ref) appendStringInfo(&text, c == '"' ? "%c\"" : "%c", c);
  if (quote) appendStringInfoChar(&text, '"');
  appendStringInfo(
      &text, "," INT64_FORMAT "," INT64_FORMAT ",%d,%s,", line.customer_id, line.product_id,
      line.quantity,
      DatumGetCString(DirectFunctionCall1(numeric_out, pg::from_hundredths(line.price))));
  if (line.has_created_at)
    appendStringInfoString(&text, DatumGetCString(DirectFunctionCall1(
                                      timestamptz_out, TimestampTzGetDatum(line.created_at))));
  appendStringInfoChar(&text, ',');
  if (line.status >= 0) {
    const std::string_view status = pg::view(import.statuses[line.status]);
    appendBinaryStringInfo(&text, status.data(), static_cast<int>(status.size()));
  }
  return text.data;
}

/// Calls `use` with the number and the data of each line of the order.
template <typename F>
void for_each_line(const Load& load, const Order& order, F&& use) {
  static_assert(pg::Jumpable<std::remove_reference_t<F>>);
  LineData line{order.customer_id,    0,    0, order.created_at, 0, order.status,
                order.has_created_at, false};
  for (std::size_t i = order.first_item; i < order.first_item + order.item_count; ++i) {
    line.product_id = load.product_ids[i];
    line.price = load.prices[i];
    line.quantity = load.quantities[i];
    use(load.lines[i], line);
  }
  if (order.spilled == nullptr) return;
  tuplestore_rescan(order.spilled);
  while (tuplestore_gettupleslot(order.spilled, true, false, load.import->spill_slot)) {
    CHECK_FOR_INTERRUPTS();
    const SortedLine spilled = line_in(load.import->spill_slot);
    use(spilled.number, spilled.data);
  }
}

void reject_order(Load& load, const Order& order, int sqlstate, const char* message) {
  Import& import = *load.import;
  const MemoryContext scratch =
      AllocSetContextCreate(load.memory, "order_proc rejected order", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext saved = MemoryContextSwitchTo(scratch);
  for_each_line(load, order, [&](int64 number, const LineData& line) {
    reject_line(import,
                {number, sqlstate, message, rebuilt(import, pg::view(order.order_ref), line)});
    MemoryContextReset(scratch);
  });
  MemoryContextSwitchTo(saved);
  MemoryContextDelete(scratch);
}

// Putting orders together.

/// The same number for the same line.
uint64 hash_of(const LineData& line, uint64 seed) {
  struct {
    int64 product_id;
    int64 price;
    int64 created_at;
    int64 quantity;
    int64 status;
  } bytes{line.product_id, line.price, line.has_created_at ? line.created_at : PG_INT64_MIN,
          line.quantity, line.status};
  return hash_bytes_extended(reinterpret_cast<const unsigned char*>(&bytes), sizeof bytes, seed);
}

void begin_order(Load& load, text* order_ref) {
  const MemoryContext saved = MemoryContextSwitchTo(load.memory);
  Order& order = load.orders[static_cast<std::size_t>(load.order_count)];
  order = {};
  order.order_ref = DatumGetTextPCopy(PointerGetDatum(order_ref));
  order.first_item = load.item_count;
  MemoryContextSwitchTo(saved);
}

void keep_item(Load& load, Order& order, const SortedLine& line) {
  if (order.item_count == items_in_memory) {
    if (order.spilled == nullptr) {
      const MemoryContext saved = MemoryContextSwitchTo(load.memory);
      order.spilled = tuplestore_begin_heap(false, false, spill_memory);
      MemoryContextSwitchTo(saved);
    }
    tuplestore_puttupleslot(order.spilled, load.import->line_slot);
    return;
  }
  const std::size_t at = load.item_count++;
  ++order.item_count;
  load.lines[at] = line.number;
  load.prices[at] = line.data.price;
  load.product_ids[at] = line.data.product_id;
  load.quantities[at] = line.data.quantity;
}

void add_line(Load& load, Order& order, const SortedLine& line) {
  const LineData& data = line.data;
  if (data.bad) {
    if (order.bad_line == 0) order.bad_line = line.number;
    return;
  }
  if (order.count == 0) {
    order.customer_id = data.customer_id;
    order.created_at = data.created_at;
    order.has_created_at = data.has_created_at;
    order.status = data.status;
  } else if (data.customer_id != order.customer_id) {
    if (import_on_error == import_skip_order && order.bad_line == 0) order.bad_line = line.number;
    const MemoryContext saved = MemoryContextSwitchTo(load.memory);
    reject_line(
        *load.import,
        {line.number, ERRCODE_INVALID_PARAMETER_VALUE,
         psprintf("order \"%s\" belongs to customer " INT64_FORMAT ", not to " INT64_FORMAT,
                  pg::shown(pg::view(order.order_ref)), order.customer_id, data.customer_id),
         rebuilt(*load.import, pg::view(order.order_ref), data)});
    MemoryContextSwitchTo(saved);
    return;
  }
  ++order.count;
  order.total += static_cast<int128>(data.quantity) * data.price;
  order.sums[0] += hash_of(data, 1);
  order.sums[1] += hash_of(data, 2);
  keep_item(load, order, line);
}

/// What the key of the order stands for: its accepted lines, in whatever order.
Datum request_hash(const Order& order) {
  struct {
    char kind[8];
    int64 customer_id;
    int64 count;
    uint64 sums[2];
  } bytes{{'i', 'm', 'p', 'o', 'r', 't'},
          order.customer_id,
          order.count,
          {order.sums[0], order.sums[1]}};
  return sha256_of(&bytes, sizeof bytes);
}

/// Takes the order into the batch, or rejects it as a whole.
void end_order(Load& load) {
  Order& order = load.orders[static_cast<std::size_t>(load.order_count)];
  const MemoryContext saved = MemoryContextSwitchTo(load.memory);
  if (order.bad_line != 0)
    reject_order(load, order, ERRCODE_DATA_EXCEPTION,
                 psprintf("order \"%s\" is left out: line " INT64_FORMAT " of it is bad",
                          pg::shown(pg::view(order.order_ref)), order.bad_line));
  else if (order.total > most_total)
    reject_order(load, order, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                 psprintf("total_amount of order \"%s\" is out of range for numeric(12,2)",
                          pg::shown(pg::view(order.order_ref))));
  else if (order.count > 0) {
    order.key = {order.customer_id, {order.order_ref}, request_hash(order)};
    ++load.order_count;
    MemoryContextSwitchTo(saved);
    return;
  }
  load.item_count = order.first_item;
  MemoryContextSwitchTo(saved);
}

// Writing a batch.

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
  return create_obstacle(store, facts) != nullptr || items_obstacle(store, facts) != nullptr ||
         facts.orders.row_by_row || facts.items.row_by_row;
}

void write_halving(Load& load, std::span<Order* const> orders,
                   std::span<const CustomerName> names) {
  if (orders.empty()) return;
  CHECK_FOR_INTERRUPTS();
  if (import_on_error == import_abort || !may_be_refused(load.import->store)) {
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
      order.id = next_order_id(import.store, order.customer_id);
      fresh[count++] = &order;
    } else if (order.fate == Fate::known) {
      ++import.counts.known;
    } else {
      reject_order(load, order, pg::idempotency_key_reused, key_reused_message(order.key));
    }
  }
  if (count > 0) write_halving(load, {fresh, count}, read_customers(load));
  unlock_keys(load);
  for (int i = 0; i < load.order_count; ++i)
    if (Tuplestorestate* const spilled = load.orders[static_cast<std::size_t>(i)].spilled)
      tuplestore_end(spilled);
  MemoryContextSwitchTo(saved);
  MemoryContextReset(load.memory);
  load.order_count = 0;
  load.item_count = 0;
}

bool same_order(const Load& load, std::string_view order_ref) {
  return pg::view(load.orders[static_cast<std::size_t>(load.order_count)].order_ref) == order_ref;
}

void report_progress(const Import& import, int64 loaded) {
  if (import.copying) pg::report_copied(import.counts.lines + loaded);
}

}  // namespace

void load_orders(Import& import) {
  tuplesort_performsort(import.lines);
  auto* const load = static_cast<Load*>(MemoryContextAllocHuge(import.memory, sizeof(Load)));
  load->import = &import;
  load->memory =
      AllocSetContextCreate(import.memory, "order_proc import batch", ALLOCSET_DEFAULT_SIZES);
  load->order_count = 0;
  load->item_count = 0;
  bool in_order = false;
  int64 loaded = 0;
  while (tuplesort_gettupleslot(import.lines, true, false, import.line_slot, nullptr)) {
    if ((++loaded & 0x3FF) == 0) {
      CHECK_FOR_INTERRUPTS();
      report_progress(import, loaded);
    }
    const SortedLine line = line_in(import.line_slot);
    if (!in_order || !same_order(*load, pg::view(line.order_ref))) {
      // The slot's row must outlive a batch that is written meanwhile: only its order_ref is
      // needed.
      if (in_order) end_order(*load);
      if (load->order_count == orders_per_batch || load->item_count >= items_per_batch)
        write_batch(*load);
      begin_order(*load, line.order_ref);
      in_order = true;
    }
    add_line(*load, load->orders[static_cast<std::size_t>(load->order_count)], line);
  }
  if (in_order) end_order(*load);
  write_batch(*load);
  tuplesort_end(import.lines);
  report_progress(import, loaded);
}

}  // namespace order_proc
