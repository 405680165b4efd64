// Background workers: what all of ours share.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
}

namespace order_proc::pg {

/// A worker of this library with a database connection, once the server accepts writes.
inline void describe_worker(BackgroundWorker& worker, const char* name, const char* function) {
  strlcpy(worker.bgw_name, name, sizeof worker.bgw_name);
  strlcpy(worker.bgw_type, name, sizeof worker.bgw_type);
  strlcpy(worker.bgw_library_name, "order_proc", sizeof worker.bgw_library_name);
  strlcpy(worker.bgw_function_name, function, sizeof worker.bgw_function_name);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
}

/// Signals, and the connection to the database; InvalidOid: to none, for the shared catalogs only.
inline void begin_worker(Oid database) {
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGTERM, die);
  BackgroundWorkerUnblockSignals();
  if (OidIsValid(database))
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
  else
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
}

inline void reload_settings_if_asked() {
  if (ConfigReloadPending == 0) return;
  ConfigReloadPending = 0;
  ProcessConfigFile(PGC_SIGHUP);
}

}  // namespace order_proc::pg
