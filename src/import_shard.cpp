// The shard's part of an import over shards: customers are looked up for the coordinator, and the
// lines that it sends become orders here, by the same code as in one database. Nothing in a chunk
// is believed: totals and the hashes of keys are computed here, of the lines.
//
// Memory: an import a call. One whose last order goes on in the next chunk stays until then, or
// until the (sub)transaction is rolled back.
#include "core/import_chunk.hpp"
#include "import_batch.hpp"
#include "parents.hpp"
#include "pg/error.hpp"
#include "pg/record.hpp"
#include "slots.hpp"
#include "statuses.hpp"

extern "C" {
#include "utils/resowner.h"
}

namespace order_proc {

namespace {

constexpr std::size_t longest_order_ref = 255;  ///< bytes
constexpr int16 no_status = -2;                 ///< one that we lack

/// The import whose last order is not at its end yet.
Load* unfinished = nullptr;

void forget_unfinished(void* load) {
  if (unfinished == load) unfinished = nullptr;
}

[[noreturn]] void malformed(const char* what) {
  ereport(ERROR, errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
          errmsg("invalid chunk of an import: %s", what),
          errhint("COPY into order_proc.order_import on the coordinator makes them."));
}

/// What a chunk is, seen as a whole: only its first order may be continued, only its last
/// unfinished.
struct Shape {
  bool continues;
  bool stays_unfinished;
};

Shape check_chunk(std::string_view bytes) {
  using core::ChunkOrder;
  Shape shape{false, false};
  bool first = true;
  for (core::ChunkReader reader(bytes); !reader.at_end(); first = false) {
    const auto order = reader.order();
    if (!order) malformed("an order is cut off");
    const std::string_view ref = order->order_ref;
    const bool continued = (order->flags & ChunkOrder::continued) != 0;
    if (shape.stays_unfinished || (continued && !first)) malformed("an order is not at its end");
    if (continued ? !ref.empty() : ref.empty() || ref.size() > longest_order_ref)
      malformed("an order_ref has no fitting length");
    (void)pg_verify_mbstr(GetDatabaseEncoding(), ref.data(), static_cast<int>(ref.size()), false);
    shape.continues |= continued;
    shape.stays_unfinished = (order->flags & ChunkOrder::unfinished) != 0;
    for (uint32 i = 0; i < order->lines; ++i)
      if (!reader.line()) malformed("a line is malformed");
    CHECK_FOR_INTERRUPTS();
  }
  return shape;
}

/// An import without sorts.
Load* begin_load(const Store& store, MemoryContext parent) {
  const MemoryContext memory =
      AllocSetContextCreate(parent, "order_proc import on a shard", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  auto* const import = static_cast<Import*>(palloc0(sizeof(Import)));
  import->memory = memory;
  import->store = store;
  const TupleDesc descriptor = sorted_line_descriptor();
  import->line_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
  import->spill_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
  const std::span<text*> statuses = copy_statuses(store);
  import->statuses = statuses.data();
  import->status_count = static_cast<int>(statuses.size());
  Load* const load = make_load(*import);
  auto* const callback =
      static_cast<MemoryContextCallback*>(palloc0(sizeof(MemoryContextCallback)));
  callback->func = forget_unfinished;
  callback->arg = load;
  MemoryContextRegisterResetCallback(memory, callback);
  MemoryContextSwitchTo(saved);
  return load;
}

/// The coordinator's list of statuses, and where each stands in ours.
struct Statuses {
  std::span<text*> theirs;
  int16* ours;
};

Statuses translate(const Import& import, ArrayType* array) {
  Datum* elements;
  bool* nulls;
  int count;
  deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
  if (count > PG_INT16_MAX) malformed("there are too many statuses");
  const auto size = static_cast<std::size_t>(count);
  const Statuses statuses{{static_cast<text**>(palloc(sizeof(text*) * (size + 1))), size},
                          static_cast<int16*>(palloc(sizeof(int16) * (size + 1)))};
  for (std::size_t i = 0; i < size; ++i) {
    if (nulls[i]) malformed("a status is NULL");
    statuses.theirs[i] = DatumGetTextPP(elements[i]);
    statuses.ours[i] = no_status;
    for (int own = 0; own < import.status_count; ++own)
      if (pg::view(import.statuses[own]) == pg::view(statuses.theirs[i]))
        statuses.ours[i] = static_cast<int16>(own);
  }
  return statuses;
}

LineData line_data(int64 customer_id, const core::ChunkLine& line, const Statuses& statuses) {
  constexpr int64 most_price = 9999999999;  // numeric(10,2)
  if (line.quantity <= 0 || line.price < 0 || line.price > most_price)
    malformed("an amount is out of range");
  if (line.has_created_at && !IS_VALID_TIMESTAMP(line.created_at) &&
      !TIMESTAMP_NOT_FINITE(line.created_at))
    malformed("a timestamp is out of range");
  if (line.status < -1 || line.status >= static_cast<int>(statuses.theirs.size()))
    malformed("a status is not in the list");
  LineData data{};
  data.customer_id = customer_id;
  data.product_id = line.product_id;
  data.price = line.price;
  data.created_at = line.has_created_at ? line.created_at : 0;
  data.quantity = line.quantity;
  data.status = line.status < 0 ? int16{-1} : statuses.ours[line.status];
  data.has_created_at = line.has_created_at;
  return data;
}

Order& order_in_the_making(Load& load) {
  return load.orders[static_cast<std::size_t>(load.order_count)];
}

void take_lines(Load& load, core::ChunkReader& reader, const core::ChunkOrder& order,
                const Statuses& statuses) {
  for (uint32 i = 0; i < order.lines; ++i) {
    if ((i & 0x3FF) == 0) CHECK_FOR_INTERRUPTS();
    const core::ChunkLine line = *reader.line();
    SortedLine sorted{nullptr, 0, line_data(order.customer_id, line, statuses), nullptr};
    if (sorted.data.status == no_status) {
      const text* const status = statuses.theirs[static_cast<std::size_t>(line.status)];
      order_in_the_making(load).unknown_status =
          MemoryContextStrdup(load.memory, pg::shown(pg::view(status)));
      sorted.data.status = -1;
    }
    add_line(load, sorted);
  }
}

void begin_chunk_order(Load& load, const core::ChunkOrder& order) {
  // What stays behind for the next call is one order alone.
  if ((order.flags & core::ChunkOrder::unfinished) != 0) write_batch(load);
  make_room(load);
  text* const order_ref =
      cstring_to_text_with_len(order.order_ref.data(), static_cast<int>(order.order_ref.size()));
  begin_order(load, order_ref);
  pfree(order_ref);
}

void take_order(Load& load, core::ChunkReader& reader, int32 number, const Statuses& statuses) {
  using core::ChunkOrder;
  const ChunkOrder order = *reader.order();
  const bool continued = (order.flags & ChunkOrder::continued) != 0;
  const bool stays = (order.flags & ChunkOrder::unfinished) != 0;
  if (!continued) begin_chunk_order(load, order);
  Order& made = order_in_the_making(load);
  if (made.count > 0 && made.customer_id != order.customer_id)
    malformed("an order belongs to two customers");
  made.number = number;
  // Lines on disk outlive the call, and a savepoint in between.
  const ResourceOwner owner = CurrentResourceOwner;
  if (continued || stays) CurrentResourceOwner = TopTransactionResourceOwner;
  take_lines(load, reader, order, statuses);
  CurrentResourceOwner = owner;
  if (stays) return;
  if ((order.flags & ChunkOrder::dropped) != 0) return drop_order(load);
  end_order(load);
}

bool is_abort(std::string_view on_error) {
  if (on_error != "skip_row" && on_error != "skip_order" && on_error != "abort")
    pg::unknown_option("on_error", on_error, "Use 'skip_row', 'skip_order' or 'abort'.");
  return on_error == "abort";
}

/// The import of the call: the one that was left unfinished, when the chunk goes on with it.
Load* load_for(const Store& store, const Shape& shape) {
  Load* load = unfinished;
  // Also when this call fails half way.
  unfinished = nullptr;
  if (shape.continues) {
    if (load == nullptr) malformed("no order is to be continued");
    load->import->store = store;
    return load;
  }
  if (load != nullptr) MemoryContextDelete(load->import->memory);
  return begin_load(store, shape.stays_unfinished ? CurTransactionContext : CurrentMemoryContext);
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_import_orders);
Datum order_proc_import_orders(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const pg::Text chunk = args.get_text(0, "chunk");
  ArrayType* const status_array = DatumGetArrayTypeP(args.datum(1, "statuses"));
  const bool all_or_nothing = is_abort(args.get_text(2, "on_error").view());
  PreventCommandIfReadOnly("INSERT");
  PreventCommandIfParallelMode("INSERT");
  const Store store = open_store({{Table::customers, RowShareLock},
                                  {Table::orders, RowExclusiveLock},
                                  {Table::order_items, RowExclusiveLock}});
  require_import_rights(store);
  require_two_decimals(store);
  const pg::ResultSet outcomes(fcinfo);
  const Shape shape = check_chunk(chunk.view());
  Load* const load = load_for(store, shape);
  load->outcomes = &outcomes;
  load->all_or_nothing = all_or_nothing;
  const Statuses statuses = translate(*load->import, status_array);
  core::ChunkReader reader(chunk.view());
  for (int32 number = 0; !reader.at_end(); ++number) take_order(*load, reader, number, statuses);
  load->outcomes = nullptr;
  if (shape.stays_unfinished) {
    unfinished = load;
    return outcomes.done();
  }
  load->outcomes = &outcomes;
  write_batch(*load);
  MemoryContextDelete(load->import->memory);
  return outcomes.done();
}

PG_FUNCTION_INFO_V1(order_proc_import_customers);
Datum order_proc_import_customers(PG_FUNCTION_ARGS) {
  static constexpr std::array<std::string_view, 2> names{"known", "made"};
  static pg::RecordType type{names};
  type.prepare(fcinfo);
  const pg::Args args(fcinfo);
  const std::span<const int64> ids = args.get_int64s(0, "customer_ids");
  const bool make = DatumGetBool(args.datum(1, "make"));
  PreventCommandIfReadOnly("INSERT");
  PreventCommandIfParallelMode("INSERT");
  const Store store = open_store({{Table::customers, make ? RowExclusiveLock : RowShareLock}});
  require_import_rights(store);
  auto* const sorted =
      static_cast<int64*>(palloc_extended(sizeof(int64) * (ids.size() + 1), MCXT_ALLOC_HUGE));
  std::copy(ids.begin(), ids.end(), sorted);
  std::sort(sorted, sorted + ids.size());
  const std::span<int64> distinct{sorted, std::unique(sorted, sorted + ids.size())};
  for (const int64 id : distinct) require_slot(store, slot_of_customer(store, id));
  auto* const known = static_cast<bool*>(palloc_extended(distinct.size() + 1, MCXT_ALLOC_HUGE));
  lock_customers(store, distinct, known);
  const auto is_known = [&](int64 id) {
    return known[std::lower_bound(distinct.begin(), distinct.end(), id) - distinct.begin()];
  };
  int64 made = 0;
  auto* const missing =
      static_cast<int64*>(palloc_extended(sizeof(int64) * (ids.size() + 1), MCXT_ALLOC_HUGE));
  const auto end = std::copy_if(distinct.begin(), distinct.end(), missing,
                                [&](int64 id) { return make && !is_known(id); });
  if (end != missing) {
    made = make_missing_customers(store, {missing, end});
    // Somebody else may have been first.
    lock_customers(store, distinct, known);
  }
  auto* const flags =
      static_cast<Datum*>(palloc_extended(sizeof(Datum) * (ids.size() + 1), MCXT_ALLOC_HUGE));
  for (std::size_t i = 0; i < ids.size(); ++i) flags[i] = BoolGetDatum(is_known(ids[i]));
  const std::array values{PointerGetDatum(construct_array(flags, static_cast<int>(ids.size()),
                                                          BOOLOID, 1, true, TYPALIGN_CHAR)),
                          Int64GetDatum(made)};
  constexpr std::array<bool, 2> nulls{};
  return type.form(values.data(), nulls.data());
}

PG_FUNCTION_INFO_V1(order_proc_import_statuses);
Datum order_proc_import_statuses(PG_FUNCTION_ARGS) {
  const std::span<text*> statuses = copy_statuses(open_store());
  auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * (statuses.size() + 1)));
  for (std::size_t i = 0; i < statuses.size(); ++i) values[i] = PointerGetDatum(statuses[i]);
  return PointerGetDatum(
      construct_array(values, static_cast<int>(statuses.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

}  // extern "C"

}  // namespace order_proc
