// Interrupts that must not end what cannot be undone. PostgreSQL's own macros increment volatile
// variables, which C++20 deprecates.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Whether an interrupt that ends the statement or the session waits to be served.
inline bool is_asked_to_stop() {
#if PG_VERSION_NUM >= 170000
  if (TransactionTimeoutPending != 0) return true;
#endif
  return QueryCancelPending != 0 || ProcDiePending != 0;
}

/// None is served until they are resumed; an ERROR resumes them, too.
inline void hold_interrupts() {
  InterruptHoldoffCount = InterruptHoldoffCount + 1;
}
inline void resume_interrupts() {
  InterruptHoldoffCount = InterruptHoldoffCount - 1;
}

/// Serves all that wait but cancels, which go on waiting.
inline void serve_all_but_cancels() {
  QueryCancelHoldoffCount = QueryCancelHoldoffCount + 1;
  CHECK_FOR_INTERRUPTS();
  QueryCancelHoldoffCount = QueryCancelHoldoffCount - 1;
}

}  // namespace order_proc::pg
