// On a shard: which coordinator, and which server of it, may commit here.
#pragma once

#include "cluster.hpp"

namespace order_proc {

/// Hooks into commits; once, from _PG_init.
void watch_commands();

}  // namespace order_proc
