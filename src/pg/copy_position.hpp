// Where a running COPY is: its line number and the line as it came, found through the error context
// that COPY keeps for its own messages.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

struct CopyPosition {
  bool copying;           ///< false under INSERT
  uint64 line;            ///< as COPY counts in its messages
  std::string_view text;  ///< empty for binary files
};

/// The position of the COPY into `relation` that is the innermost one.
CopyPosition copy_position(Oid relation);

/// Moves the counter of pg_stat_progress_copy on.
void report_copied(int64 lines);

}  // namespace order_proc::pg
