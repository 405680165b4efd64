// On a shard: which coordinator, and which server of it, may commit here.
#pragma once

namespace order_proc {

/// Hooks into COMMIT PREPARED; once, from _PG_init.
void watch_commands();

}  // namespace order_proc
