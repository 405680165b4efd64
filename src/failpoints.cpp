// order_proc.failpoint = 'name=action', for tests; it works once. The actions:
//   error  raises
//   pause  makes the file failpoint_reached in the data directory, with the process id in it, and
//          waits until it is removed; served are no interrupts
//   kill   ends this process as kill -9 does
//   crash  ends the postmaster, and this process, as kill -9 does
// Allocates nothing, so that it may stand behind the decision of a commit.
#include "failpoints.hpp"

#ifdef ORDER_PROC_FAILPOINTS

#include "pg/error.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
}

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <string_view>

namespace order_proc {

namespace {

char* failpoint = nullptr;
/// Each time it is set it works once.
bool used = false;

void rearm(const char*, void*) {
  used = false;
}

constexpr const char* reached_file = "failpoint_reached";

void pause_here() {
  const int file = open(reached_file, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (file < 0) return;
  dprintf(file, "%d\n", static_cast<int>(getpid()));
  close(file);
  while (access(reached_file, F_OK) == 0) usleep(1000);
}

void crash() {
  kill(PostmasterPid, SIGKILL);
  kill(getpid(), SIGKILL);
}

}  // namespace

void reach_failpoint(const char* name) {
  if (used || failpoint == nullptr || *failpoint == '\0') return;
  const std::string_view armed(failpoint);
  const std::size_t split = armed.find('=');
  if (split == std::string_view::npos || armed.substr(0, split) != name) return;
  used = true;
  const std::string_view action = armed.substr(split + 1);
  if (action == "error")
    ereport(ERROR, errcode(ERRCODE_IO_ERROR), errmsg("failpoint \"%s\"", name));
  if (action == "pause") pause_here();
  if (action == "kill") kill(getpid(), SIGKILL);
  if (action == "crash") crash();
}

void define_failpoint_settings() {
  DefineCustomStringVariable("order_proc.failpoint", "Where a test fails, stops or kills.", nullptr,
                             &failpoint, "", PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, rearm, nullptr);
}

}  // namespace order_proc

#endif
