#include "remote/wait.hpp"

#include <csignal>

namespace order_proc::remote {

namespace {

/// How often to look whether the postmaster lives.
constexpr int longest_sleep = 1000;

bool interrupt_to_serve() {
  return InterruptPending && InterruptHoldoffCount == 0 && CritSectionCount == 0;
}

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

bool passed(Deadline deadline) {
  return deadline != never && GetCurrentTimestamp() >= deadline;
}

bool wait_ready(std::span<pollfd> descriptors, Deadline deadline, Interrupts interrupts) {
  for (;;) {
    if (interrupts == Interrupts::serve) CHECK_FOR_INTERRUPTS();
    const int milliseconds = sleep_for(deadline);
    const timespec timeout{milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (interrupts == Interrupts::serve && interrupt_to_serve()) {
      sigprocmask(SIG_SETMASK, &before, nullptr);
      continue;
    }
    pgstat_report_wait_start(PG_WAIT_EXTENSION);
    const int ready = ppoll(descriptors.data(), descriptors.size(), &timeout, &before);
    pgstat_report_wait_end();
    sigprocmask(SIG_SETMASK, &before, nullptr);
    if (ready > 0) return true;
    if (passed(deadline)) return false;
    if (interrupts == Interrupts::serve && !PostmasterIsAlive())
      ereport(FATAL, errcode(ERRCODE_ADMIN_SHUTDOWN),
              errmsg("terminating connection due to unexpected postmaster exit"));
    if (interrupts == Interrupts::hold && !PostmasterIsAlive()) return false;
  }
}

}  // namespace order_proc::remote
