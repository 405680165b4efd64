// One worker per database settles what is in doubt: once a second, and from 100 ms on while
// something is, or a shard cannot be reached, which may have something, or there is more to forget
// than a round takes. With the library in shared_preload_libraries a launcher starts the workers of
// all databases that coordinate a cluster, after a crash and after a promotion as well; without it
// the first session that uses shards does. A worker acts as the owner of the store.
//
// It gives way to DROP DATABASE and the like: whoever wants the database for himself holds a lock
// on it, which a worker looks for.
#include "worker.hpp"

#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/user.hpp"
#include "pg/workers.hpp"
#include "remote/connection.hpp"
#include "resolver.hpp"
#include "saga.hpp"

namespace order_proc {

namespace {

bool enabled = true;
bool wanted = true;  ///< a session looks once for a worker

constexpr int tick = 1000;
constexpr int shortest_pause = 50;
constexpr int longest_pause = 500;  ///< while there is something to do
constexpr int patience = 1000;
/// A worker that a session started leaves when it had nothing to do for so long.
constexpr int most_idle_ticks = 60;
/// How often the launcher looks for clusters that have no worker: for which it starts a process in
/// each database, so that a server of many may get the longer pause.
constexpr int launch_interval = 60000;
constexpr int launch_pauses = 100;  ///< of the time that the look took
/// How long it waits for a worker to find out whether there is one.
constexpr int longest_start = 2000;

/// What the launcher adds to the database's oid: such a worker stays.
constexpr std::string_view launched_mark = "launched";

void start_worker(Oid database, bool launched, BackgroundWorkerHandle** handle) {
  BackgroundWorker worker{};
  pg::describe_worker(worker, "order_proc recovery worker", "order_proc_worker");
  worker.bgw_restart_time = BGW_NEVER_RESTART;
  worker.bgw_main_arg = ObjectIdGetDatum(database);
  if (launched) {
    std::copy(launched_mark.begin(), launched_mark.end(), worker.bgw_extra);
    worker.bgw_notify_pid = MyProcPid;
  }
  if (!RegisterDynamicBackgroundWorker(&worker, handle)) *handle = nullptr;
}

/// Whether somebody wants the database for himself: DROP, RENAME, CREATE ... TEMPLATE.
bool database_is_wanted() {
  LOCKTAG tag;
  SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
  int count = 0;
  VirtualTransactionId* const holders = GetLockConflicts(&tag, RowExclusiveLock, &count);
  pfree(holders);
  return count > 0;
}

/// What a round left; nothing when there is no cluster here.
std::optional<Left> run_round() {
  if (!store_present()) return std::nullopt;
  const Store store = open_store();
  const Cluster& here = cluster_of(store);
  if (here.role != Role::coordinator || here.copied) return std::nullopt;
  auto* const cluster = static_cast<Cluster*>(palloc(sizeof(Cluster)));
  *cluster = here;
  Left left{};
  pg::as_user(store.owner, [&] { left = settle_all(store, *cluster, nullptr, patience); });
  compensate_sagas(store, nullptr);
  return left;
}

/// The same in a transaction of its own. What it raises is logged, but not twice in a row.
struct Round {
  int error;  ///< SQLSTATE
  std::optional<Left> left;
};

/// There is no store here that fits the extension, or another server is the coordinator: nothing
/// that the next round could change.
bool is_final(int code) {
  return ERRCODE_TO_CATEGORY(code) == ERRCODE_TO_CATEGORY(pg::no_store);
}

Round run_transaction() {
  static int last_code = 0;
  volatile int code = 0;
  std::optional<Left> left;
  const MemoryContext memory = CurrentMemoryContext;
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
  pgstat_report_activity(STATE_RUNNING, "settling transactions in doubt");
  PG_TRY();
  {
    left = run_round();
    PopActiveSnapshot();
    CommitTransactionCommand();
    last_code = 0;
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(memory);
    ErrorData* const error = CopyErrorData();
    code = error->sqlerrcode;
    if (code != last_code && !is_final(code)) EmitErrorReport();
    last_code = code;
    FreeErrorData(error);
    FlushErrorState();
    AbortCurrentTransaction();
  }
  PG_END_TRY();
  MemoryContextSwitchTo(memory);
  pgstat_report_activity(STATE_IDLE, nullptr);
  return {code, left};
}

/// Sleeps; a reload of the settings or a signal ends it.
void pause(int milliseconds) {
  (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds,
                  PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
  CHECK_FOR_INTERRUPTS();
  pg::reload_settings_if_asked();
}

void work(bool launched) {
  int idle_ticks = 0;
  int next_pause = shortest_pause;
  while (enabled && !database_is_wanted()) {
    const Round round = run_transaction();
    if (round.error == 0 ? !round.left : is_final(round.error)) return;
    const bool busy = round.error != 0 || round.left->in_doubt > 0 || round.left->unreached > 0 ||
                      round.left->more;
    const bool idle = !busy && round.left->decisions == 0;
    idle_ticks = idle ? idle_ticks + 1 : 0;
    if (!launched && idle_ticks > most_idle_ticks) return;
    next_pause = busy ? std::min(next_pause * 2, longest_pause) : shortest_pause;
    pause(busy ? next_pause : tick);
  }
}

bool has_worker(Oid database) {
  return pg::is_locked(pg::LockKind::worker, 0, database);
}

/// False when the database has its worker. Who just looks whether it has one is in the way for a
/// moment.
bool become_the_one() {
  const LOCKTAG tag = pg::lock_tag(pg::LockKind::worker, 0);
  for (int attempt = 0; attempt < 10; ++attempt) {
    if (LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL) return true;
    pause(10);
  }
  return false;
}

List* databases() {
  const MemoryContext memory = CurrentMemoryContext;
  List* found = NIL;
  StartTransactionCommand();
  const Relation table = table_open(DatabaseRelationId, AccessShareLock);
  const TableScanDesc scan = table_beginscan_catalog(table, 0, nullptr);
  for (HeapTuple row = heap_getnext(scan, ForwardScanDirection); HeapTupleIsValid(row);
       row = heap_getnext(scan, ForwardScanDirection)) {
    const auto* const database = reinterpret_cast<const FormData_pg_database*>(GETSTRUCT(row));
    if (!database->datallowconn || database->datistemplate || has_worker(database->oid)) continue;
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    found = lappend_oid(found, database->oid);
    MemoryContextSwitchTo(saved);
  }
  table_endscan(scan);
  table_close(table, AccessShareLock);
  CommitTransactionCommand();
  MemoryContextSwitchTo(memory);
  return found;
}

/// Starts a worker in a database and waits until it has stopped, for want of a cluster, or stays.
void try_database(Oid database) {
  BackgroundWorkerHandle* handle = nullptr;
  start_worker(database, true, &handle);
  if (handle == nullptr) {
    ereport(LOG, errmsg("no background worker is free to settle transactions in doubt"),
            errhint("Raise max_worker_processes."));
    return;
  }
  const TimestampTz start = GetCurrentTimestamp();
  pid_t pid;
  while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED &&
         !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), longest_start)) {
    if (has_worker(database)) break;
    pause(20);
  }
  pfree(handle);
}

/// Pauses until then, or until workers are allowed, whatever else wakes it: the end of a worker is
/// told after it was seen.
void pause_until(TimestampTz end) {
  for (bool was_enabled = enabled; was_enabled || !enabled;) {
    was_enabled = enabled;
    const long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
    if (left <= 0) return;
    pause(static_cast<int>(std::min<long>(left, INT_MAX)));
  }
}

}  // namespace

void want_worker() {
  wanted = true;
}

void start_wanted_worker() {
  if (!wanted || !enabled || RecoveryInProgress()) return;
  wanted = false;
  if (has_worker(MyDatabaseId)) return;
  BackgroundWorkerHandle* handle = nullptr;
  start_worker(MyDatabaseId, false, &handle);
  if (handle != nullptr) pfree(handle);
}

void define_workers() {
  DefineCustomBoolVariable("order_proc.recovery_worker",
                           "Lets background workers settle transactions in doubt.",
                           "off leaves it to calls of order_proc.recover().", &enabled, true,
                           PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
  if (!process_shared_preload_libraries_in_progress) return;
  BackgroundWorker launcher{};
  pg::describe_worker(launcher, "order_proc launcher", "order_proc_launcher");
  launcher.bgw_restart_time = 5;
  RegisterBackgroundWorker(&launcher);
}

extern "C" {

PGDLLEXPORT void order_proc_worker(Datum database) {
  const bool launched = std::string_view(MyBgworkerEntry->bgw_extra).starts_with(launched_mark);
  pg::begin_worker(DatumGetObjectId(database));
  if (!become_the_one()) proc_exit(0);
  // An unreachable shard must not hold up the others for long.
  SetConfigOption("order_proc.connect_timeout", "1000", PGC_USERSET, PGC_S_SESSION);
  work(launched);
  proc_exit(0);
}

PGDLLEXPORT void order_proc_launcher(Datum) {
  pg::begin_worker(InvalidOid);
  const MemoryContext memory =
      AllocSetContextCreate(TopMemoryContext, "order_proc launcher", ALLOCSET_DEFAULT_SIZES);
  MemoryContextSwitchTo(memory);
  for (;;) {
    const TimestampTz start = GetCurrentTimestamp();
    if (enabled) {
      ListCell* cell;
      foreach (cell, databases()) try_database(lfirst_oid(cell));
    }
    MemoryContextReset(memory);
    const TimestampTz end = GetCurrentTimestamp();
    pause_until(end + std::max<int64>((end - start) * launch_pauses, launch_interval * 1000LL));
  }
}

}  // extern "C"

}  // namespace order_proc
