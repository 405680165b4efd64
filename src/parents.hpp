// Rows that others refer to, looked up and locked many at once: what foreign key triggers do row by
// row.
#pragma once

#include "store.hpp"

namespace order_proc {

/// Marks in `known` which of the orders (customers) exist, and locks those FOR KEY SHARE: as the
/// owner of the table, with the snapshot of a foreign key's trigger. `ids` is ascending and
/// distinct.
void lock_orders(const Store& store, std::span<const int64> ids, bool* known);
void lock_customers(const Store& store, std::span<const int64> ids, bool* known);

}  // namespace order_proc
