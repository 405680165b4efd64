// Customers' names in one part (layouts up to 1.3) and in two (from 1.3 on).
#pragma once

#include "pg/args.hpp"
#include "store.hpp"

namespace order_proc {

/// Both parts joined by one blank, or the one there is; a null Text when there is none.
pg::Text full_name(pg::Text first, pg::Text last);

/// Fills in the parts of every customer in one statement, as the owner; for migrate_store. Inside
/// with_spi.
void backfill_names_at_once(const Store& store);

}  // namespace order_proc
