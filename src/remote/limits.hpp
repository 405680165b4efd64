// How many connections there may be to a shard, over all sessions when the library is preloaded and
// in this one otherwise; and the timer that hangs up idle ones while the session waits for its
// client.
#pragma once

#include "remote/connection.hpp"

namespace order_proc::remote {

/// Takes a place for a connection to the server, waiting up to connect_timeout for one: 53300.
void reserve_place(Connection& connection);
/// Async-signal-safe.
void release_place(Connection& connection);

/// Starts the timer if it does not run (an ERROR stops all timers).
void watch_idle_connections();

/// Shared memory; once, from _PG_init.
void define_limits();

}  // namespace order_proc::remote
