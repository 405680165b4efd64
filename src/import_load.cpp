// Loading: the sorted lines, order by order. Orders are gathered to batches, which import_write.cpp
// writes.
#include "amounts.hpp"
#include "import_batch.hpp"
#include "pg/copy_position.hpp"
#include "pg/error.hpp"

namespace order_proc {

SortedLine line_in(TupleTableSlot* slot) {
  slot_getallattrs(slot);
  SortedLine line{DatumGetTextPP(slot->tts_values[1]),
                  DatumGetInt64(slot->tts_values[2]),
                  {},
                  DatumGetTextPP(slot->tts_values[4])};
  std::copy_n(VARDATA_ANY(DatumGetByteaPP(slot->tts_values[3])), sizeof line.data,
              reinterpret_cast<char*>(&line.data));
  return line;
}

namespace {

/// Calls `use` with the number of each line of the order, and the line as it came.
template <typename F>
void for_each_line(const Load& load, const Order& order, F&& use) {
  static_assert(pg::Jumpable<std::remove_reference_t<F>>);
  for (std::size_t i = order.first_item; i < order.first_item + order.item_count; ++i)
    use(load.lines[i], pg::view(load.raws[i]));
  if (order.spilled == nullptr) return;
  tuplestore_rescan(order.spilled);
  while (tuplestore_gettupleslot(order.spilled, true, false, load.import->spill_slot)) {
    CHECK_FOR_INTERRUPTS();
    const SortedLine spilled = line_in(load.import->spill_slot);
    use(spilled.number, pg::view(spilled.raw));
  }
}

}  // namespace

void reject_order(Load& load, const Order& order, int sqlstate, const char* message) {
  Import& import = *load.import;
  if (load.outcomes != nullptr)
    return load.outcomes->add({pg::Value(Int32GetDatum(order.number)),
                               pg::Value(BoolGetDatum(false)),
                               pg::Value(CStringGetTextDatum(unpack_sql_state(sqlstate))),
                               pg::Value(CStringGetTextDatum(message))});
  const MemoryContext scratch =
      AllocSetContextCreate(load.memory, "order_proc rejected order", ALLOCSET_DEFAULT_SIZES);
  for_each_line(load, order, [&](int64 number, std::string_view raw) {
    // Lines that come from disk are fetched in, and belong to, the memory around.
    const MemoryContext saved = MemoryContextSwitchTo(scratch);
    reject_line(import, {number, sqlstate, message, raw});
    MemoryContextSwitchTo(saved);
    MemoryContextReset(scratch);
  });
  MemoryContextDelete(scratch);
}

namespace {

// Putting orders together.

/// By its text: the place of a status in the list changes with the list.
int64 status_hash(const Import& import, int16 status) {
  if (status < 0) return 0;
  const std::string_view name = pg::view(import.statuses[status]);
  return static_cast<int64>(hash_bytes_extended(reinterpret_cast<const unsigned char*>(name.data()),
                                                static_cast<int>(name.size()), 0));
}

/// The same number for the same line.
uint64 hash_of(const Import& import, const LineData& line, uint64 seed) {
  struct {
    int64 product_id;
    int64 price;
    int64 created_at;
    int64 quantity;
    int64 status;
  } bytes{line.product_id, line.price, line.has_created_at ? line.created_at : PG_INT64_MIN,
          line.quantity, status_hash(import, line.status)};
  return hash_bytes_extended(reinterpret_cast<const unsigned char*>(&bytes), sizeof bytes, seed);
}

}  // namespace

void begin_order(Load& load, text* order_ref) {
  const MemoryContext saved = MemoryContextSwitchTo(load.memory);
  Order& order = load.orders[static_cast<std::size_t>(load.order_count)];
  order = {};
  order.order_ref = DatumGetTextPCopy(PointerGetDatum(order_ref));
  order.first_item = load.item_count;
  MemoryContextSwitchTo(saved);
}

namespace {

text* copy_text(MemoryContext memory, const text* value) {
  const Size size = VARSIZE_ANY(value);
  auto* const copy = static_cast<text*>(MemoryContextAlloc(memory, size));
  std::copy_n(reinterpret_cast<const char*>(value), size, reinterpret_cast<char*>(copy));
  return copy;
}

/// The line as the sort has it, when it does not come from there.
TupleTableSlot* slot_of(const Load& load, const SortedLine& line) {
  TupleTableSlot* const slot = load.import->line_slot;
  if (line.raw != nullptr) return slot;
  std::array<char, VARHDRSZ + sizeof(LineData)> data;
  std::array<char, VARHDRSZ> empty;
  SET_VARSIZE(data.data(), data.size());
  SET_VARSIZE(empty.data(), empty.size());
  std::copy_n(reinterpret_cast<const char*>(&line.data), sizeof line.data, data.begin() + VARHDRSZ);
  ExecClearTuple(slot);
  slot->tts_values[0] = Int64GetDatum(0);
  slot->tts_values[1] = slot->tts_values[4] = PointerGetDatum(empty.data());
  slot->tts_values[2] = Int64GetDatum(line.number);
  slot->tts_values[3] = PointerGetDatum(data.data());
  std::fill_n(slot->tts_isnull, 5, false);
  ExecStoreVirtualTuple(slot);
  ExecMaterializeSlot(slot);
  return slot;
}

void keep_item(Load& load, Order& order, const SortedLine& line) {
  if (order.spilled != nullptr || order.item_count == items_in_memory ||
      load.raw_bytes >= raw_bytes_per_batch) {
    if (order.spilled == nullptr) {
      const MemoryContext saved = MemoryContextSwitchTo(load.memory);
      order.spilled = tuplestore_begin_heap(false, false, spill_memory);
      MemoryContextSwitchTo(saved);
    }
    tuplestore_puttupleslot(order.spilled, slot_of(load, line));
    return;
  }
  const std::size_t at = load.item_count++;
  ++order.item_count;
  load.lines[at] = line.number;
  load.prices[at] = line.data.price;
  if (line.raw != nullptr) {
    load.raws[at] = copy_text(load.memory, line.raw);
    load.raw_bytes += VARSIZE_ANY(load.raws[at]);
  }
  load.product_ids[at] = line.data.product_id;
  load.quantities[at] = line.data.quantity;
}

}  // namespace

const char* wrong_customer(std::string_view order_ref, int64 owner, int64 other) {
  return psprintf("order \"%s\" belongs to customer " INT64_FORMAT ", not to " INT64_FORMAT,
                  pg::shown(order_ref), owner, other);
}

const char* order_is_bad(std::string_view order_ref, int64 bad_line) {
  return psprintf("order \"%s\" is left out: line " INT64_FORMAT " of it is bad",
                  pg::shown(order_ref), bad_line);
}

void add_line(Load& load, const SortedLine& line) {
  Order& order = load.orders[static_cast<std::size_t>(load.order_count)];
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
    reject_line(*load.import,
                {line.number, ERRCODE_INVALID_PARAMETER_VALUE,
                 wrong_customer(pg::view(order.order_ref), order.customer_id, data.customer_id),
                 pg::view(line.raw)});
    MemoryContextSwitchTo(saved);
    return;
  }
  ++order.count;
  order.total += static_cast<int128>(data.quantity) * data.price;
  order.sums[0] += hash_of(*load.import, data, 1);
  order.sums[1] += hash_of(*load.import, data, 2);
  keep_item(load, order, line);
}

namespace {

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

}  // namespace

void end_order(Load& load) {
  Order& order = load.orders[static_cast<std::size_t>(load.order_count)];
  const MemoryContext saved = MemoryContextSwitchTo(load.memory);
  if (order.bad_line != 0)
    reject_order(load, order, ERRCODE_DATA_EXCEPTION,
                 order_is_bad(pg::view(order.order_ref), order.bad_line));
  else if (order.unknown_status != nullptr)
    reject_order(load, order, ERRCODE_INVALID_PARAMETER_VALUE,
                 psprintf("unknown status \"%s\"", order.unknown_status));
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
  drop_order(load);
  MemoryContextSwitchTo(saved);
}

void drop_order(Load& load) {
  Order& order = load.orders[static_cast<std::size_t>(load.order_count)];
  if (order.spilled != nullptr) tuplestore_end(order.spilled);
  order.spilled = nullptr;
  load.item_count = order.first_item;
}

namespace {

bool same_order(const Load& load, std::string_view order_ref) {
  return pg::view(load.orders[static_cast<std::size_t>(load.order_count)].order_ref) == order_ref;
}

/// The sorted lines become orders here.
void load_here(Import& import) {
  Load* const load = make_load(import);
  load->all_or_nothing = import_on_error == import_abort;
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
      make_room(*load);
      begin_order(*load, line.order_ref);
      in_order = true;
    }
    add_line(*load, line);
  }
  if (in_order) end_order(*load);
  write_batch(*load);
  report_progress(import, loaded);
}

}  // namespace

void report_progress(const Import& import, int64 loaded) {
  if (import.copying) pg::report_copied(import.counts.lines + loaded);
}

Load* make_load(Import& import) {
  auto* const load = static_cast<Load*>(MemoryContextAllocHuge(import.memory, sizeof(Load)));
  load->import = &import;
  load->all_or_nothing = false;
  load->outcomes = nullptr;
  load->memory =
      AllocSetContextCreate(import.memory, "order_proc import batch", ALLOCSET_DEFAULT_SIZES);
  load->order_count = 0;
  load->item_count = 0;
  load->ended = 0;
  load->raw_bytes = 0;
  return load;
}

void make_room(Load& load) {
  // The slot's own memory is the sort's: only what orders took is in the batch's.
  if (load.order_count == 0) {
    MemoryContextReset(load.memory);
    load.raw_bytes = 0;
  }
  if (load.order_count == orders_per_batch || load.item_count >= items_per_batch ||
      load.raw_bytes >= raw_bytes_per_batch || ++load.ended >= 10 * orders_per_batch)
    write_batch(load);
}

void load_orders(Import& import) {
  import.loading = true;
  tuplesort_performsort(import.lines);
  if (import.cluster != nullptr)
    load_on_shards(import);
  else
    load_here(import);
  tuplesort_end(import.lines);
  raise_first_reject(import);
}

void check_orders(Import& import) {
  import.loading = true;
  tuplesort_performsort(import.lines);
  text* order_ref = nullptr;
  int64 customer_id = 0;
  while (tuplesort_gettupleslot(import.lines, true, false, import.line_slot, nullptr)) {
    CHECK_FOR_INTERRUPTS();
    const SortedLine line = line_in(import.line_slot);
    if (order_ref == nullptr || pg::view(order_ref) != pg::view(line.order_ref)) {
      order_ref = DatumGetTextPCopy(PointerGetDatum(line.order_ref));
      customer_id = line.data.customer_id;
    } else if (line.data.customer_id != customer_id) {
      reject_line(import, {line.number,
                           ERRCODE_INVALID_PARAMETER_VALUE,
                           wrong_customer(pg::view(order_ref), customer_id, line.data.customer_id),
                           {}});
    }
  }
}

}  // namespace order_proc
