// Commit in two phases over the shards.
#pragma once

namespace order_proc {

/// Settings; once, from _PG_init.
void define_commit_settings();

/// Hooks into the ends of transactions; once, from _PG_init.
void watch_commits();

}  // namespace order_proc
