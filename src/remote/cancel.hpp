// Stopping a statement on a shard while its transaction is to go on.
#pragma once

#include "remote/wait.hpp"

namespace order_proc::remote {

struct Connection;

/// Cancels what runs on the connection, through a second one, and reads it to its end; false when
/// that cannot be done in time. Does not raise: for the callbacks of an abort.
bool cancel_and_finish(Connection& connection, Deadline deadline);

}  // namespace order_proc::remote
