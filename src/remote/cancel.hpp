// Stopping a statement on a shard while its transaction is to go on.
#pragma once

#include "remote/wait.hpp"

namespace order_proc::remote {

struct Connection;

/// Cancels what runs on the connections, through second ones, many at once; false when that cannot
/// be done everywhere in time. That of a pooler cannot. Does not raise: for the callbacks of an
/// abort.
bool cancel(std::span<Connection* const> connections, Deadline deadline);

/// Cancels what runs on a connection and reads it to its end; false when that cannot be done in
/// time.
bool cancel_and_finish(Connection& connection, Deadline deadline);

}  // namespace order_proc::remote
