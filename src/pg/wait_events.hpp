// What pg_stat_activity shows of a session that waits for us. Names of extensions' own exist from
// PostgreSQL 17 on; before, all that an extension waits for is Extension/Extension.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "utils/wait_event.h"
}

namespace order_proc::pg {

/// The number of an event of that name, the same in all sessions. Raises when there are too many.
inline uint32 name_wait_event([[maybe_unused]] const char* name) {
#if PG_VERSION_NUM >= 170000
  return WaitEventExtensionNew(name);
#else
  return PG_WAIT_EXTENSION;
#endif
}

}  // namespace order_proc::pg
