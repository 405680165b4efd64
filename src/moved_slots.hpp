// A slot that is on its way to another shard: the one that the map names refuses it (OP402), until
// the map here is what the shards have.
#pragma once

#include "remote/connection.hpp"

namespace order_proc {

/// How long, in milliseconds, the shard of a slot is looked for.
inline constexpr int look_for_slot = 5000;

/// Whether a shard refused its call for that reason.
bool slot_was_away(const remote::Connection& connection);

/// Waits a moment and reads the map anew: after the refused call was undone.
void look_again();

}  // namespace order_proc
