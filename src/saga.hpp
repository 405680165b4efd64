// Sagas: an order and what is to follow it, each in a transaction of its own; when the second fails
// the first is taken back.
#pragma once

#include "pg/srf.hpp"
#include "store.hpp"

namespace order_proc {

/// Takes back the orders of sagas that nobody is at any more: what a crash left. Rows go to
/// `results` when there is one; else sagas that failed before wait longer each time. For recovery,
/// once what is in doubt is settled, in a READ COMMITTED transaction that used no shards.
void compensate_sagas(const Store& store, const pg::ResultSet* results);

}  // namespace order_proc
