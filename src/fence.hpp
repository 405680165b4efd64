// On a shard: which coordinator, and which server of it, may commit here.
#pragma once

#include "cluster.hpp"

namespace order_proc {

/// Hooks into COMMIT PREPARED; once, from _PG_init.
void watch_commands();

/// Until the end of the transaction no other coordinator is taken; OP503 when one was, since this
/// session joined.
void hold_fence();

/// OP503 when the shard follows a server that was promoted after that timeline.
void require_timeline(const Cluster& here, uint32 timeline);

}  // namespace order_proc
