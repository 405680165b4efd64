// Migrations of the store: the steps that the extension's scripts registered as functions, run as
// the owner.
#pragma once

#include "store.hpp"

namespace order_proc {

/// Makes the tables in the empty schema order_store, then takes every step up to the installed
/// version. `placement_check` ties an order's id to the slot of its customer. Inside with_spi.
void make_store(Oid owner, core::Placement placement, const char* placement_check);

/// Runs the idempotent statements of the step up to `version` again, as the owner. Inside with_spi.
void attach_triggers(std::size_t version, Oid owner);

}  // namespace order_proc
