// Statuses of orders: order_statuses and status_transitions are tables that the owner edits.
#pragma once

#include "pg/args.hpp"
#include "store.hpp"

namespace order_proc {

/// The status an order is to be made with: `given` when it is known, the initial one when it is
/// NULL. Raises 22023 for an unknown one.
pg::Text status_for_new_order(const Store& store, pg::Text given);

/// All statuses, copied into the present memory context.
std::span<text*> copy_statuses(const Store& store);

/// Callbacks; once, from _PG_init.
void watch_statuses();

}  // namespace order_proc
