// Making an order out of a request, by whichever path the caller may take.
#pragma once

#include "pg/args.hpp"
#include "store.hpp"

namespace order_proc {

/// What is asked for. Of the spans only the prices are written to.
struct OrderRequest {
  int64 customer_id;
  pg::Text status;
  std::optional<Datum> total_amount;  ///< numeric
  std::span<const int64> product_ids;
  std::span<const int32> quantities;
  std::span<Datum> prices;  ///< numeric; replaced by what the column stores
  pg::Text notes;
  pg::Text idempotency_key;
};

/// The store, with the locks that making orders takes.
Store open_store_for_orders();

/// The id of the order, made now or under the same key before. Raises what create_order_with_items
/// documents.
int64 make_order(const Store& store, const OrderRequest& request);

}  // namespace order_proc
