// Many items at once, into orders that exist already: the engine behind batches.
#pragma once

#include "pg/args.hpp"
#include "store.hpp"

namespace order_proc {

/// The arrays of a batch; prices as the column stores them. Row i is element i of each.
struct ItemArrays {
  std::span<const int64> order_ids;
  std::span<const int64> product_ids;
  std::span<const int32> quantities;
  std::span<const Datum> prices;
};

/// Writes the rows listed (positions in the arrays, ascending) and makes them visible to the next
/// command. Their orders must be locked FOR KEY SHARE: direct access does not look at them again.
/// Errors are those of INSERT by the caller.
/// Returns how many went in: a trigger or rule of the user's may drop rows.
int64 write_items(const Store& store, const ItemArrays& items, std::span<const uint32> rows);

}  // namespace order_proc
