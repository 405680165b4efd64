// Waiting for sockets: poll(2), which needs no descriptor of its own, in short sleeps, so that a
// cancel that comes just before one is not slept over for long.
#pragma once

#include <poll.h>

#include "pg/postgres.hpp"

extern "C" {
#include "storage/pmsignal.h"
}

namespace order_proc::remote {

/// A point in time; `never` waits for ever.
using Deadline = TimestampTz;
inline constexpr Deadline never = 0;

Deadline after_milliseconds(int milliseconds);
bool passed(Deadline deadline);

/// Gives waits for shards their name, where the server has names for those of extensions; raises,
/// so it is called before the first connection and not in a wait.
void name_shard_wait();

/// What interrupts (cancel, statement_timeout, termination) do to a wait.
enum class Interrupts {
  serve,  ///< they raise out of it
  leave,  ///< it ends, and they stay pending
  hold    ///< nothing: in the callbacks of commit and abort
};

/// Waits until one of the descriptors is ready (see their revents). False when the deadline has
/// passed, or an interrupt ends the wait.
bool wait_ready(std::span<pollfd> descriptors, Deadline deadline, Interrupts interrupts);

}  // namespace order_proc::remote
