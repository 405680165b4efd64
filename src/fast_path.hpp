// The fast path: direct table access for making and reading orders, where nothing of the user's
// could tell the difference from plain SQL. Whatever it cannot honour sends the operation to the
// executor.
#pragma once

#include "pg/args.hpp"
#include "pg/spi.hpp"
#include "store.hpp"

namespace order_proc {

/// An order as both paths write it: checked, prices as the column stores them.
struct NewOrder {
  int64 customer_id;
  text* status;
  Datum total_amount;  ///< numeric
  pg::Text notes;
  std::span<const int64> product_ids;
  std::span<const int32> quantities;
  std::span<const Datum> prices;  ///< numeric
};

/// The order's id; nullopt when the executor has to do it, with nothing written so far.
std::optional<int64> create_order_fast(const Store& store, const NewOrder& order);

/// Columns of order_record, in order.
inline constexpr std::size_t order_field_count = 9;

/// A row of orders; by-reference values live as long as the callback that gets it.
struct OrderRow {
  std::array<Datum, order_field_count> values;
  std::array<bool, order_field_count> nulls;
};

/// Whether reads may take the fast path now, for this caller.
bool may_read_fast(const Store& store);

/// Reads an order with the active snapshot and hands it to `use` with its items as JSON text (when
/// `items` is given, which it fills); false when there is no such order. Only when may_read_fast.
using UseOrder = void (*)(const OrderRow& row, void* argument);
bool read_order_fast(const Store& store, int64 order_id, StringInfo items, UseOrder use,
                     void* argument);

/// order_proc.fast_path
extern bool fast_path_enabled;

/// Callbacks; once, from _PG_init.
void watch_fast_path();

}  // namespace order_proc
