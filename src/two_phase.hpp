// Commit in two phases over the shards.
#pragma once

namespace order_proc {

/// Hooks into the ends of transactions; once, from _PG_init.
void watch_commits();

}  // namespace order_proc
