// The background worker of a coordinator's database, which settles what is in doubt.
#pragma once

namespace order_proc {

/// Notes that something is in doubt: the next call of this session starts a worker. For the
/// callbacks of commit and abort.
void want_worker();

/// Starts the worker of this database, unless one runs, at the session's first use of shards and
/// when one is wanted. Without one recover() does the same by hand.
void start_wanted_worker();

/// Settings, and with shared_preload_libraries the launcher; once, from _PG_init.
void define_workers();

}  // namespace order_proc
