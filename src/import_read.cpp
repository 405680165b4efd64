// Reading: a line's seven texts become numbers or a reject; its customer is looked up, many at
// once, as the owner of customers and with the lock that the foreign key asks for; then it goes
// into the sort.
#include "core/line_parser.hpp"
#include "import.hpp"
#include "parents.hpp"
#include "pg/arrays.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/timestamps.hpp"
#include "slots.hpp"

namespace order_proc {

namespace {

constexpr std::size_t longest_order_ref = 255;  ///< bytes: it becomes an idempotency key
constexpr int most_pending = 4096;              ///< lines
constexpr long most_known_customers = 400000;   ///< beyond, the set starts anew: 24 MB or so

enum LineColumn {
  l_order_ref,
  l_customer_id,
  l_product_id,
  l_quantity,
  l_price,
  l_created_at,
  l_status
};

constexpr std::array<const char*, 7> column_names{
    "order_ref", "customer_id", "product_id", "quantity", "price", "created_at", "status"};

/// What is wrong with a line; no message: nothing.
struct Fault {
  int sqlstate = 0;
  const char* message = nullptr;
  explicit operator bool() const { return message != nullptr; }
};

Fault missing(int column) {
  return {ERRCODE_NULL_VALUE_NOT_ALLOWED,
          psprintf("%s is missing", column_names[static_cast<std::size_t>(column)])};
}

/// Empty like NULL: files have both.
bool absent(pg::Text value) {
  return !value || value.view().empty();
}

Fault number_fault(core::NumberFault fault, int column, std::string_view value, const char* type) {
  const char* const name = column_names[static_cast<std::size_t>(column)];
  switch (fault) {
    case core::NumberFault::none:
      return {};
    case core::NumberFault::malformed:
      return {ERRCODE_INVALID_TEXT_REPRESENTATION,
              psprintf("%s is not of type %s: \"%s\"", name, type, pg::shown(value))};
    case core::NumberFault::out_of_range:
      return {ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
              psprintf("%s is out of range for %s: %s", name, type, pg::shown(value))};
    case core::NumberFault::not_a_number:
      break;
  }
  return {ERRCODE_CHECK_VIOLATION,
          psprintf("%s must be a number and not negative: %s", name, pg::shown(value))};
}

Fault read_integer(std::span<const pg::Text> columns, int column, int64 least, int64 most,
                   const char* type, int64* value) {
  const pg::Text text = columns[static_cast<std::size_t>(column)];
  if (absent(text)) return missing(column);
  const auto parsed = pg::core_call(core::parse_integer, text.view(), least, most);
  *value = parsed.value;
  return number_fault(parsed.fault, column, text.view(), type);
}

Fault read_quantity(std::span<const pg::Text> columns, int32* quantity) {
  int64 value = 0;
  if (const Fault fault =
          read_integer(columns, l_quantity, PG_INT32_MIN, PG_INT32_MAX, "integer", &value))
    return fault;
  if (value <= 0)
    return {ERRCODE_CHECK_VIOLATION, psprintf("quantity must be positive: " INT64_FORMAT, value)};
  *quantity = static_cast<int32>(value);
  return {};
}

Fault read_price(std::span<const pg::Text> columns, int64* hundredths) {
  constexpr int64 most = 9999999999;  // numeric(10,2)
  const pg::Text text = columns[l_price];
  if (absent(text)) return missing(l_price);
  const auto [fault, value] = pg::core_call(core::parse_hundredths, text.view());
  if (value < 0) return number_fault(core::NumberFault::not_a_number, l_price, text.view(), "");
  if (fault != core::NumberFault::none || value > most)
    return number_fault(fault == core::NumberFault::none ? core::NumberFault::out_of_range : fault,
                        l_price, text.view(), "numeric(10,2)");
  *hundredths = value;
  return {};
}

/// Lines of an order have the same one, so the last is kept.
Fault read_created_at(Import& import, pg::Text text, LineData& line) {
  line.has_created_at = !absent(text);
  if (!line.has_created_at) return {};
  const std::string_view value = text.view();
  if (value != std::string_view(import.last_timestamp_text.data(), import.last_timestamp_size)) {
    const auto parsed = pg::parse_timestamp(value);
    if (parsed.sqlstate != 0)
      return {parsed.sqlstate, psprintf("created_at is not a timestamp: \"%s\"", pg::shown(value))};
    import.last_timestamp = parsed.value;
    import.last_timestamp_size =
        value.size() <= import.last_timestamp_text.size() ? value.size() : 0;
    std::copy_n(value.begin(), import.last_timestamp_size, import.last_timestamp_text.begin());
  }
  line.created_at = import.last_timestamp;
  return {};
}

Fault read_status(const Import& import, pg::Text text, LineData& line) {
  line.status = -1;
  if (absent(text)) return {};
  for (int i = 0; i < import.status_count; ++i)
    if (pg::view(import.statuses[i]) == text.view()) {
      line.status = static_cast<int16>(i);
      return {};
    }
  return {ERRCODE_INVALID_PARAMETER_VALUE,
          psprintf("unknown status \"%s\"", pg::shown(text.view()))};
}

Fault order_ref_fault(pg::Text order_ref) {
  if (absent(order_ref)) return missing(l_order_ref);
  if (order_ref.view().size() > longest_order_ref)
    return {ERRCODE_INVALID_PARAMETER_VALUE,
            psprintf("order_ref is longer than %zu bytes: \"%s\"", longest_order_ref,
                     pg::shown(order_ref.view()))};
  return {};
}

/// The first thing that is wrong, in the order of the columns.
Fault parse_line(Import& import, std::span<const pg::Text> columns, LineData& line) {
  if (const Fault fault = order_ref_fault(columns[l_order_ref])) return fault;
  if (const Fault fault = read_integer(columns, l_customer_id, PG_INT64_MIN, PG_INT64_MAX, "bigint",
                                       &line.customer_id))
    return fault;
  if (const Fault fault = read_integer(columns, l_product_id, PG_INT64_MIN, PG_INT64_MAX, "bigint",
                                       &line.product_id))
    return fault;
  if (const Fault fault = read_quantity(columns, &line.quantity)) return fault;
  if (const Fault fault = read_price(columns, &line.price)) return fault;
  if (const Fault fault = read_created_at(import, columns[l_created_at], line)) return fault;
  return read_status(import, columns[l_status], line);
}

text* to_text(std::string_view value) {
  return cstring_to_text_with_len(value.data(), static_cast<int>(value.size()));
}

void put(Import& import, std::string_view order_ref, int64 number, const LineData& line,
         std::string_view raw) {
  TupleTableSlot* const slot = import.line_slot;
  std::array<char, VARHDRSZ + longest_order_ref> ref;
  std::array<char, VARHDRSZ + sizeof(LineData)> data;
  SET_VARSIZE(ref.data(), VARHDRSZ + order_ref.size());
  std::copy(order_ref.begin(), order_ref.end(), ref.begin() + VARHDRSZ);
  SET_VARSIZE(data.data(), data.size());
  std::copy_n(reinterpret_cast<const char*>(&line), sizeof line, data.begin() + VARHDRSZ);
  ExecClearTuple(slot);
  slot->tts_values[0] = Int64GetDatum(static_cast<int64>(
      hash_bytes_extended(reinterpret_cast<const unsigned char*>(order_ref.data()),
                          static_cast<int>(order_ref.size()), 0)));
  slot->tts_values[1] = PointerGetDatum(ref.data());
  slot->tts_values[2] = Int64GetDatum(number);
  slot->tts_values[3] = PointerGetDatum(data.data());
  const std::string_view kept = kept_raw(raw);
  text* const raw_text = to_text(kept);
  slot->tts_values[4] = PointerGetDatum(raw_text);
  std::fill_n(slot->tts_isnull, 5, false);
  ExecStoreVirtualTuple(slot);
  tuplesort_puttupleslot(import.lines, slot);
  pfree(raw_text);
}

}  // namespace

void reject_of_order(Import& import, pg::Text order_ref, const Reject& reject) {
  reject_line(import, reject);
  if (import_on_error == import_skip_order && !order_ref_fault(order_ref)) {
    LineData bad{};
    bad.bad = true;
    put(import, order_ref.view(), reject.line, bad, {});
  }
}

namespace {

pg::Statement make_customers{
    "INSERT INTO order_store.customers (id) SELECT u.id FROM pg_catalog.unnest($1) AS u(id) "
    "ON CONFLICT DO NOTHING",
    INT8ARRAYOID};

HTAB* make_customer_set(MemoryContext memory) {
  HASHCTL control{};
  control.keysize = sizeof(int64);
  control.entrysize = sizeof(int64);
  control.hcxt = memory;
  return hash_create("order_proc import customers", 1024, &control,
                     HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

bool known_customer(Import& import, int64 id) {
  if (import.last_customer_known && import.last_customer == id) return true;
  if (import.customers == nullptr ||
      hash_search(import.customers, &id, HASH_FIND, nullptr) == nullptr)
    return false;
  import.last_customer = id;
  import.last_customer_known = true;
  return true;
}

void note_customer(Import& import, int64 id) {
  if (import.customers == nullptr) import.customers = make_customer_set(import.memory);
  (void)hash_search(import.customers, &id, HASH_ENTER, nullptr);
}

/// Before a look-up, never in the middle of one: its answers must all be there when they are asked
/// for.
void make_room(Import& import) {
  if (import.customers == nullptr || hash_get_num_entries(import.customers) < most_known_customers)
    return;
  hash_destroy(import.customers);
  import.customers = nullptr;
}

}  // namespace

int64 make_missing_customers(const Store& store, std::span<const int64> ids) {
  return pg::with_spi([&] {
    const Datum array =
        pg::make_array<int64>(ids.size(), INT8OID, [&](std::size_t i) { return ids[i]; });
    return static_cast<int64>(make_customers.run(store.layout.index, {pg::Value(array)}));
  });
}

struct PendingLines {
  struct Line {
    int64 number;
    LineData data;
    text* order_ref;
    text* raw;
  };
  MemoryContext memory;
  Size raw_bytes;
  int count;
  std::array<Line, most_pending> lines;
};

namespace {

/// Locks those of the customers that exist and notes them.
void look_up_customers(Import& import, std::span<const int64> ids) {
  auto* const known = static_cast<bool*>(palloc(ids.size() + 1));
  if (import.cluster != nullptr) {
    find_customers_on_shards(import, ids, known);
  } else {
    // On a shard: those of the other shards are not unknown, they are not here.
    for (const int64 id : ids) require_slot(import.store, slot_of_customer(import.store, id));
    lock_customers(import.store, ids, known);
  }
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (known[i]) note_customer(import, ids[i]);
}

/// Makes the customers that are still unknown, as the caller; then they exist like the others.
void create_missing(Import& import, std::span<int64> ids) {
  const auto end =
      std::remove_if(ids.begin(), ids.end(), [&](int64 id) { return known_customer(import, id); });
  const std::span<int64> missing_ids{ids.begin(), end};
  if (missing_ids.empty()) return;
  import.counts.customers += make_missing_customers(import.store, missing_ids);
  // Somebody else may have been first.
  look_up_customers(import, missing_ids);
}

void resolve_pending(Import& import) {
  PendingLines* const pending = import.pending;
  if (pending == nullptr || pending->count == 0) return;
  const MemoryContext saved = MemoryContextSwitchTo(pending->memory);
  const std::span<PendingLines::Line> lines{pending->lines.data(),
                                            static_cast<std::size_t>(pending->count)};
  // First: a reject that ends the import asks for the pending lines itself.
  pending->count = 0;
  pending->raw_bytes = 0;
  auto* const ids = static_cast<int64*>(palloc(sizeof(int64) * lines.size()));
  for (std::size_t i = 0; i < lines.size(); ++i) ids[i] = lines[i].data.customer_id;
  std::sort(ids, ids + lines.size());
  const std::span<int64> distinct{ids, std::unique(ids, ids + lines.size())};
  make_room(import);
  look_up_customers(import, distinct);
  // The shards have made them on the way.
  if (import_create_customers && import.cluster == nullptr) create_missing(import, distinct);
  for (const PendingLines::Line& line : lines) {
    if (known_customer(import, line.data.customer_id))
      put(import, pg::view(line.order_ref), line.number, line.data, pg::view(line.raw));
    else
      reject_of_order(import, {line.order_ref},
                      {line.number, ERRCODE_FOREIGN_KEY_VIOLATION,
                       psprintf("customer " INT64_FORMAT " does not exist", line.data.customer_id),
                       pg::view(line.raw)});
  }
  MemoryContextSwitchTo(saved);
  MemoryContextReset(pending->memory);
}

/// Keeps the line until its customer is looked up.
void wait_for_customer(Import& import, std::string_view order_ref, int64 number,
                       const LineData& line, std::string_view raw) {
  if (import.pending == nullptr) {
    import.pending =
        static_cast<PendingLines*>(MemoryContextAlloc(import.memory, sizeof(PendingLines)));
    import.pending->memory =
        AllocSetContextCreate(import.memory, "order_proc import pending", ALLOCSET_DEFAULT_SIZES);
    import.pending->count = 0;
    import.pending->raw_bytes = 0;
  }
  PendingLines* const pending = import.pending;
  const MemoryContext saved = MemoryContextSwitchTo(pending->memory);
  pending->lines[static_cast<std::size_t>(pending->count++)] = {number, line, to_text(order_ref),
                                                                to_text(kept_raw(raw))};
  MemoryContextSwitchTo(saved);
  pending->raw_bytes += raw.size();
  if (pending->count == most_pending || pending->raw_bytes > 4 * 1024 * 1024)
    resolve_pending(import);
}

}  // namespace

void read_line(Import& import, std::span<const pg::Text> columns, int64 number,
               std::string_view raw) {
  ++import.counts.lines;
  LineData line{};
  if (const Fault fault = parse_line(import, columns, line)) {
    return reject_of_order(import, columns[l_order_ref],
                           {number, fault.sqlstate, fault.message, raw});
  }
  const std::string_view order_ref = columns[l_order_ref].view();
  if (known_customer(import, line.customer_id))
    put(import, order_ref, number, line, raw);
  else
    wait_for_customer(import, order_ref, number, line, raw);
}

void finish_reading(Import& import) {
  resolve_pending(import);
}

}  // namespace order_proc
