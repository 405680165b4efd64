// batch_create_order_items: items for orders that exist, chunk by chunk. What can be told from the
// rows and the orders is found for a whole chunk before anything is inserted; what only the insert
// can reveal (a constraint or trigger of the user's) is isolated by halving.
//
// Memory: the arguments, and per chunk 40 bytes a row, freed with the chunk.
#include "batch.hpp"

#include "amounts.hpp"
#include "item_writer.hpp"
#include "pg/args.hpp"
#include "pg/compat.hpp"
#include "parents.hpp"
#include "pg/error.hpp"
#include "pg/savepoint.hpp"
#include "pg/sort.hpp"
#include "pg/srf.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

enum class OnError { abort, skip_chunk, skip_row };

OnError parse_on_error(std::string_view name) {
  if (name == "abort") return OnError::abort;
  if (name == "skip_chunk") return OnError::skip_chunk;
  if (name == "skip_row") return OnError::skip_row;
  pg::unknown_option("on_error", name, "Use 'abort', 'skip_chunk' or 'skip_row'.");
}

template <typename T>
T* allocate(std::size_t count) {
  return static_cast<T*>(palloc_extended(std::max<Size>(count, 1) * sizeof(T), MCXT_ALLOC_HUGE));
}

/// The name of the first column that is NULL in the row.
const char* null_column(const Batch& batch, std::size_t row) {
  if (batch.order_ids.null(row)) return "order_id";
  if (batch.product_ids.null(row)) return "product_id";
  if (batch.quantities.null(row)) return "quantity";
  return batch.prices.null(row) ? "price" : nullptr;
}

const char* numeric_text(Datum value) {
  return pg::shown(DatumGetCString(DirectFunctionCall1(numeric_out, value)));
}

/// What is wrong with the row by itself; sets the price as it is stored.
std::optional<Fault> row_fault(const Store& store, const Batch& batch, uint32 row,
                               Datum* stored_price) {
  if (const char* column = null_column(batch, row))
    return Fault{row, ERRCODE_NULL_VALUE_NOT_ALLOWED, psprintf("%s must not be NULL", column)};
  if (batch.quantities.values[row] <= 0)
    return Fault{row, ERRCODE_CHECK_VIOLATION,
                 psprintf("quantity must be positive: %d", batch.quantities.values[row]),
                 "order_items_quantity_check"};
  const Datum price = batch.prices.values[row];
  // A column of the owner's making rounds for itself, and what it cannot hold shows when it is
  // inserted.
  if (store.price_typmod != price_typmod) {
    *stored_price = price;
    return std::nullopt;
  }
  const AmountCheck check = check_amount(price, price_typmod);
  switch (check.fault) {
    case AmountFault::none:
      *stored_price = check.amount.stored;
      return std::nullopt;
    case AmountFault::out_of_range:
      return Fault{row, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                   psprintf("price is out of range for numeric(10,2): %s", numeric_text(price))};
    default:
      return Fault{row, ERRCODE_CHECK_VIOLATION,
                   psprintf("price must be a number and not negative: %s", numeric_text(price)),
                   "order_items_price_check"};
  }
}

struct ParentSet {
  std::span<int64> ids;
  bool* known;

  bool contains(int64 id) const {
    return known[std::lower_bound(ids.begin(), ids.end(), id) - ids.begin()];
  }
};

/// The distinct orders of the rows, locked where they exist.
ParentSet lock_parents(const Store& store, const Batch& batch, std::span<const uint32> rows) {
  auto* const ids = allocate<int64>(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) ids[i] = batch.order_ids.values[rows[i]];
  pg::sort_values(std::span<int64>(ids, rows.size()), std::less<>());
  const auto count = static_cast<std::size_t>(std::unique(ids, ids + rows.size()) - ids);
  auto* const known = allocate<bool>(count);
  lock_orders(store, {ids, count}, known);
  return {{ids, count}, known};
}

/// Splits a chunk into rows that can be tried and faults; prices are stored for all rows of the
/// batch.
std::span<uint32> find_faults(const Store& store, const Batch& batch, const Chunk& chunk,
                              Datum* stored_prices, Faults& faults) {
  auto* const rows = allocate<uint32>(chunk.size());
  std::size_t count = 0;
  for (uint32 row = chunk.first; row < chunk.end; ++row) {
    if ((row & 0xFFFF) == 0) CHECK_FOR_INTERRUPTS();
    const auto fault = row_fault(store, batch, row, &stored_prices[row - chunk.first]);
    if (fault)
      faults.add(*fault);
    else
      rows[count++] = row;
  }
  const ParentSet parents = lock_parents(store, batch, {rows, count});
  for (const int64 id : parents.ids) require_slot(store, core::slot_of_order(id));
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if ((i & 0xFFFF) == 0) CHECK_FOR_INTERRUPTS();
    const int64 order_id = batch.order_ids.values[rows[i]];
    if (parents.contains(order_id))
      rows[kept++] = rows[i];
    else
      faults.add({rows[i], ERRCODE_FOREIGN_KEY_VIOLATION,
                  psprintf("order " INT64_FORMAT " does not exist", order_id),
                  "order_items_order_id_fkey"});
  }
  return {rows, kept};
}

[[noreturn]] void raise(const Fault& fault) {
  ereport(ERROR, errcode(fault.sqlstate), errmsg("%s", fault.message),
          errdetail("Row %u of the batch.", fault.row + 1),
          errhint("on_error => 'skip_row' leaves such rows out and reports them."),
          err_generic_string(PG_DIAG_SCHEMA_NAME, "order_store"),
          err_generic_string(PG_DIAG_TABLE_NAME, "order_items"),
          fault.constraint == nullptr
              ? 0
              : err_generic_string(PG_DIAG_CONSTRAINT_NAME, fault.constraint));
}

/// What a batch is working on.
struct Work {
  const Store* store;
  ItemArrays items;  ///< of the present chunk: positions count from its first row
  const pg::ResultSet* results;
};

ItemArrays arrays_of(const Batch& batch, const Chunk& chunk, const Datum* stored_prices) {
  return {batch.order_ids.values.subspan(chunk.first, chunk.size()),
          batch.product_ids.values.subspan(chunk.first, chunk.size()),
          batch.quantities.values.subspan(chunk.first, chunk.size()),
          {stored_prices, chunk.size()}};
}

/// Inserts the rows (positions in the chunk) in a savepoint of their own; halves those that fail.
/// Returns how many went in.
int64 insert_halving(const Work& work, const Chunk& chunk, std::span<const uint32> rows,
                     Faults& faults) {
  if (rows.empty()) return 0;
  CHECK_FOR_INTERRUPTS();
  check_stack_depth();
  int64 written = 0;
  ErrorData* const error =
      pg::in_savepoint([&] { written = write_items(*work.store, work.items, rows); });
  if (error == nullptr) return written;
  if (!pg::caused_by_data(error)) ReThrowError(error);
  if (rows.size() == 1) {
    faults.add({chunk.first + rows[0], error->sqlerrcode, error->message});
    return 0;
  }
  FreeErrorData(error);
  const std::size_t half = rows.size() / 2;
  return insert_halving(work, chunk, rows.subspan(0, half), faults) +
         insert_halving(work, chunk, rows.subspan(half), faults);
}

pg::Value text_value(const char* value) {
  return pg::Value(CStringGetTextDatum(value));
}

void report_fault(const Work& work, const Chunk& chunk, const Fault& fault) {
  work.results->add({pg::Value(Int32GetDatum(chunk.number)),
                     pg::Value(Int64GetDatum(chunk.first + int64{1})),
                     pg::Value(Int64GetDatum(chunk.end)), pg::Value(Int64GetDatum(0)),
                     pg::Value(Int64GetDatum(fault.row + int64{1})),
                     text_value(unpack_sql_state(fault.sqlstate)), text_value(fault.message)});
}

/// The row of the chunk itself; `failure` when all of it was left out.
void report_chunk(const Work& work, const Chunk& chunk, int64 inserted, const Fault* failure) {
  work.results->add(
      {pg::Value(Int32GetDatum(chunk.number)), pg::Value(Int64GetDatum(chunk.first + int64{1})),
       pg::Value(Int64GetDatum(chunk.end)), pg::Value(Int64GetDatum(inserted)), pg::Value{},
       failure == nullptr ? pg::Value{} : text_value(unpack_sql_state(failure->sqlstate)),
       failure == nullptr ? pg::Value{} : text_value(failure->message)});
}

void sort_by_row(const Faults& faults) {
  pg::sort_values(std::span<Fault>(faults.list, faults.count),
                  [](const Fault& a, const Fault& b) { return a.row < b.row; });
}

/// Fails with the first faulty row, or inserts all.
void run_abort(const Work& work, const Chunk& chunk, std::span<const uint32> rows,
               const Faults& faults) {
  if (faults.count > 0) raise(faults.list[0]);
  report_chunk(work, chunk, write_items(*work.store, work.items, rows), nullptr);
}

/// All of the chunk or nothing of it.
void run_skip_chunk(const Work& work, const Chunk& chunk, std::span<const uint32> rows,
                    const Faults& faults) {
  if (faults.count > 0) {
    Fault first = faults.list[0];
    first.message = psprintf("row %u: %s", first.row + 1, first.message);
    return report_chunk(work, chunk, 0, &first);
  }
  int64 written = 0;
  ErrorData* const error =
      pg::in_savepoint([&] { written = write_items(*work.store, work.items, rows); });
  if (error == nullptr) return report_chunk(work, chunk, written, nullptr);
  if (!pg::caused_by_data(error)) ReThrowError(error);
  const Fault failure{chunk.first, error->sqlerrcode, error->message};
  report_chunk(work, chunk, 0, &failure);
}

void run_skip_row(const Work& work, const Chunk& chunk, std::span<const uint32> rows,
                  Faults& faults) {
  const int64 inserted = insert_halving(work, chunk, rows, faults);
  sort_by_row(faults);
  report_chunk(work, chunk, inserted, nullptr);
  for (std::size_t i = 0; i < faults.count; ++i) {
    if ((i & 0x3FF) == 0) CHECK_FOR_INTERRUPTS();
    report_fault(work, chunk, faults.list[i]);
  }
}

/// On a coordinator: what a row shows by itself is found here, the rest on the shards.
void run_chunk_on_shards(FunctionCallInfo fcinfo, const Cluster& cluster, const Store& store,
                         const Batch& batch, const Chunk& chunk, const pg::ResultSet& results,
                         OnError on_error) {
  Datum stored;
  Faults faults{allocate<Fault>(chunk.size()), 0};
  auto* const rows = allocate<uint32>(chunk.size());
  std::size_t count = 0;
  for (uint32 row = chunk.first; row < chunk.end; ++row) {
    if ((row & 0xFFFF) == 0) CHECK_FOR_INTERRUPTS();
    if (const auto fault = row_fault(store, batch, row, &stored))
      faults.add(*fault);
    else
      rows[count++] = row;
  }
  const Work work{&store, {}, &results};
  const std::span<const uint32> fit{rows, count};
  if (on_error == OnError::skip_row) {
    const int64 inserted = insert_on_shards(fcinfo, cluster, batch, fit, faults);
    sort_by_row(faults);
    report_chunk(work, chunk, inserted, nullptr);
    for (std::size_t i = 0; i < faults.count; ++i) report_fault(work, chunk, faults.list[i]);
    return;
  }
  int64 inserted = 0;
  const auto all_or_nothing = [&] {
    inserted = insert_all_on_shards(fcinfo, cluster, batch, fit, faults);
    sort_by_row(faults);
    if (faults.count > 0) raise(faults.list[0]);
  };
  if (on_error == OnError::abort) {
    all_or_nothing();
    return report_chunk(work, chunk, inserted, nullptr);
  }
  ErrorData* const error = pg::in_savepoint(all_or_nothing);
  if (error == nullptr) return report_chunk(work, chunk, inserted, nullptr);
  if (!pg::caused_by_data(error)) ReThrowError(error);
  Fault failure{chunk.first, error->sqlerrcode, error->message};
  if (faults.count > 0) {
    failure = faults.list[0];
    failure.message = psprintf("row %u: %s", failure.row + 1, failure.message);
  }
  report_chunk(work, chunk, 0, &failure);
}

void run_chunk(const Store& store, const Batch& batch, const Chunk& chunk,
               const pg::ResultSet& results, OnError on_error) {
  Datum* const stored_prices = allocate<Datum>(chunk.size());
  Faults faults{allocate<Fault>(chunk.size()), 0};
  const std::span<uint32> rows = find_faults(store, batch, chunk, stored_prices, faults);
  sort_by_row(faults);
  for (uint32& row : rows) row -= chunk.first;
  const Work work{&store, arrays_of(batch, chunk, stored_prices), &results};
  switch (on_error) {
    case OnError::abort:
      return run_abort(work, chunk, rows, faults);
    case OnError::skip_chunk:
      return run_skip_chunk(work, chunk, rows, faults);
    case OnError::skip_row:
      return run_skip_row(work, chunk, rows, faults);
  }
}

void describe_chunk(void* argument) {
  const auto& chunk = *static_cast<const Chunk*>(argument);
  errcontext("batch_create_order_items, chunk %d, rows %u to %u", chunk.number, chunk.first + 1,
             chunk.end);
}

Batch batch_of(const pg::Args& args) {
  const Batch batch{
      args.get_int64_elements(0, "order_ids"), args.get_int64_elements(1, "product_ids"),
      args.get_int32_elements(2, "quantities"), args.get_numeric_elements(3, "prices")};
  const std::array sizes{batch.order_ids.size(), batch.product_ids.size(), batch.quantities.size(),
                         batch.prices.size()};
  if (std::any_of(sizes.begin(), sizes.end(), [&](std::size_t size) { return size != sizes[0]; }))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("order_ids, product_ids, quantities and prices must have the same length"),
            errdetail("They have %zu, %zu, %zu and %zu elements.", sizes[0], sizes[1], sizes[2],
                      sizes[3]),
            errhint("Give one element of each per item."));
  return batch;
}

/// Before anything is looked up as the owner.
void require_insert(const Store& store) {
  const Oid items = store.table(Table::order_items);
  const std::array columns{get_attnum(items, "order_id"), get_attnum(items, "product_id"),
                           get_attnum(items, "quantity"), get_attnum(items, "price")};
  if (!pg::caller_may({items, ACL_INSERT, {}, columns}))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "order_items");
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_batch_create_order_items);
Datum order_proc_batch_create_order_items(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  PreventCommandIfReadOnly("INSERT");
  PreventCommandIfParallelMode("INSERT");
  const Batch batch = batch_of(args);
  const int32 chunk_size = args.get_int32(4, "chunk_size");
  const OnError on_error = parse_on_error(args.get_text(5, "on_error").view());
  if (chunk_size < 1)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("chunk_size must be positive: %d", chunk_size),
            errhint("The default is 100000."));
  const Cluster* const cluster = routed(makes_items);
  const Store store =
      open_store({{Table::orders, RowShareLock}, {Table::order_items, RowExclusiveLock}});
  require_insert(store);
  const pg::ResultSet results(fcinfo);
  const MemoryContext memory =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc batch chunk", ALLOCSET_DEFAULT_SIZES);
  Chunk chunk{0, 0, 0};
  ErrorContextCallback context{};
  context.callback = describe_chunk;
  context.arg = &chunk;
  context.previous = error_context_stack;
  error_context_stack = &context;
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  const auto total = static_cast<uint32>(batch.size());
  while (chunk.end < total) {
    CHECK_FOR_INTERRUPTS();
    const uint32 first = chunk.end;
    chunk = {chunk.number + 1, first,
             first + std::min(static_cast<uint32>(chunk_size), total - first)};
    if (cluster != nullptr)
      run_chunk_on_shards(fcinfo, *cluster, store, batch, chunk, results, on_error);
    else
      run_chunk(store, batch, chunk, results, on_error);
    MemoryContextReset(memory);
  }
  MemoryContextSwitchTo(saved);
  MemoryContextDelete(memory);
  error_context_stack = context.previous;
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
