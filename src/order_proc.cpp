// The module: its magic, its settings, its callbacks. No logic, and nothing that can raise:
// pg_upgrade loads the library into servers where nothing else of the extension exists.
#include "cluster.hpp"
#include "consistent_cut.hpp"
#include "failpoints.hpp"
#include "fast_path.hpp"
#include "fence.hpp"
#include "import.hpp"
#include "recovery.hpp"
#include "remote/limits.hpp"
#include "remote/transaction.hpp"
#include "statuses.hpp"
#include "store.hpp"
#include "two_phase.hpp"
#include "worker.hpp"

namespace order_proc {

extern "C" {

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init() {
  DefineCustomBoolVariable("order_proc.fast_path",
                           "Lets orders be made and read by direct table access.",
                           "The results are the same; off sends everything through the executor.",
                           &fast_path_enabled, true, PGC_USERSET, 0, nullptr, nullptr, nullptr);
  define_import_settings();
  remote::define_connection_settings();
  remote::define_transaction_settings();
  remote::define_limits();
  define_cut_settings();
  define_commit_settings();
#ifdef ORDER_PROC_FAILPOINTS
  define_failpoint_settings();
#endif
  define_workers();
  MarkGUCPrefixReserved("order_proc");
  watch_store();
  watch_statuses();
  watch_fast_path();
  watch_cluster();
  watch_commits();
  watch_commands();
  watch_last_import();
  watch_promotions();
}

}  // extern "C"

}  // namespace order_proc
