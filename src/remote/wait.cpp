#include "remote/wait.hpp"

#include "pg/interrupts.hpp"
#include "pg/wait_events.hpp"

namespace order_proc::remote {

namespace {

/// A signal that comes just before the call sleeps does not wake it: then this is how long an
/// interrupt waits. It costs less than holding signals back around each sleep.
constexpr int longest_sleep = 50;

uint32 shard_event = PG_WAIT_EXTENSION;

/// Milliseconds to sleep, rounded up.
int sleep_for(Deadline deadline) {
  if (deadline == never) return longest_sleep;
  const int64 left = deadline - GetCurrentTimestamp();
  if (left <= 0) return 0;
  return static_cast<int>(std::min<int64>((left + 999) / 1000, longest_sleep));
}

}  // namespace

Deadline after_milliseconds(int milliseconds) {
  return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), static_cast<int64>(milliseconds));
}

void name_shard_wait() {
  if (shard_event == PG_WAIT_EXTENSION) shard_event = pg::name_wait_event("OrderProcShard");
}

bool passed(Deadline deadline) {
  return deadline != never && GetCurrentTimestamp() >= deadline;
}

bool wait_ready(std::span<pollfd> descriptors, Deadline deadline, Interrupts interrupts) {
  for (;;) {
    if (interrupts == Interrupts::leave) {
      if (pg::is_asked_to_stop()) return false;
      // One that comes just now is left, too.
      pg::serve_all_but_cancels();
    }
    if (interrupts == Interrupts::serve) CHECK_FOR_INTERRUPTS();
    pgstat_report_wait_start(shard_event);
    const int ready = poll(descriptors.data(), descriptors.size(), sleep_for(deadline));
    pgstat_report_wait_end();
    if (ready > 0) return true;
    if (passed(deadline)) return false;
    if (PostmasterIsAlive()) continue;
    if (interrupts == Interrupts::hold) return false;
    ereport(FATAL, errcode(ERRCODE_ADMIN_SHUTDOWN),
            errmsg("terminating connection due to unexpected postmaster exit"));
  }
}

}  // namespace order_proc::remote
