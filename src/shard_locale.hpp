// What add_shard asks of a database beside what it tells of itself: that it sorts, compares and
// hashes as this one does.
#pragma once

#include "remote/connection.hpp"
#include "store.hpp"

namespace order_proc {

/// Why a database cannot become a shard; without `why` it can.
struct Misfit {
  const char* why;
  const char* hint;
};

/// Rows of all shards are merged, and their minima and maxima compared, by the coordinator's order.
Misfit compare_locale(remote::Connection& connection);

/// The frozen vectors of the slots, as the shard sees them; of a store placed by hash.
Misfit compare_slots(remote::Connection& connection);

}  // namespace order_proc
