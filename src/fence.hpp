// On a shard: which coordinator, and which server of it, may commit here.
#pragma once

#include "cluster.hpp"

namespace order_proc {

/// Hooks into commits; once, from _PG_init.
void watch_commands();

/// The present transaction decides `gid`: its commit fails with OP503 when the shard has taken
/// another coordinator, or another server of it, by then.
void fence_commit(const core::Gid& gid);

}  // namespace order_proc
