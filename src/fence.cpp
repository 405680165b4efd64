// A coordinator names itself, and the server it runs on, when it connects. The shard keeps the
// newest server (timeline) it was told of: one that was promoted shuts out the one before, so that
// nobody commits what the new one has just decided otherwise. Two servers of one timeline are
// copies of each other: the second is refused.
//
// The fence is a lock: COMMIT PREPARED and ROLLBACK PREPARED of a session that joined hold it
// shared; a new coordinator takes it exclusively before it is written down. Whatever comes later
// sees it.
#include "fence.hpp"

#include "cluster.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

/// Whom this session speaks for.
struct Joined {
  int64 coordinator_id;
  remote::Incarnation server;  ///< timeline 0: nobody
};
Joined joined{};

pg::Statement note_server{
    "UPDATE order_store.cluster AS c SET coordinator_id = $1, timeline = $2, instance = $3, "
    "former_id = CASE WHEN c.coordinator_id OPERATOR(pg_catalog.=) $1 THEN c.former_id ELSE "
    "c.coordinator_id END",
    INT8OID, INT4OID, INT8OID};

[[noreturn]] void not_that_shard(const Cluster& here, int64 coordinator_id, int shard_id) {
  const char* const detail = here.role == Role::shard
                                 ? psprintf("It is shard %d of cluster " INT64_FORMAT ".",
                                            here.shard_id, here.coordinator_id)
                                 : "It is no shard of a cluster.";
  ereport(
      ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
      errmsg("this database is not shard %d of cluster " INT64_FORMAT, shard_id, coordinator_id),
      errdetail_internal("%s", detail),
      errhint("Compare the options of the foreign server with order_store.shards."));
}

[[noreturn]] void fenced(const Cluster& here, const char* detail, const char* hint) {
  ereport(ERROR, errcode(pg::coordinator_fenced),
          errmsg("shard %d does not take orders from this coordinator any more", here.shard_id),
          errdetail_internal("%s", detail), errhint("%s", hint));
}

/// OP503 when the shard knows a newer server, or another of the same timeline.
void require_not_older(const Cluster& here, remote::Incarnation server) {
  const remote::Incarnation known = here.coordinator_here;
  if (known.timeline > server.timeline)
    fenced(here,
           psprintf("It follows a server that was promoted later (timeline %u, not %u).",
                    known.timeline, server.timeline),
           "Connect to the server that was promoted.");
  if (known.timeline == server.timeline && known.instance != server.instance)
    fenced(here, "It follows another server with the same history: one of them is a copy.",
           "SELECT order_proc.adopt_cluster(); on the one that is to go on.");
}

/// 55000 or OP503 for another cluster's coordinator.
void require_coordinator(const Cluster& here, int64 coordinator_id, int shard_id) {
  if (here.role == Role::shard && here.coordinator_id == coordinator_id &&
      here.shard_id == shard_id)
    return;
  if (here.role == Role::shard && here.former_id == coordinator_id)
    fenced(here,
           psprintf("Cluster " INT64_FORMAT " was adopted by coordinator " INT64_FORMAT ".",
                    coordinator_id, here.coordinator_id),
           "Use that one. What this one left prepared: SELECT * FROM order_proc.in_doubt; there.");
  not_that_shard(here, coordinator_id, shard_id);
}

remote::Incarnation server_of(const pg::Args& args, int timeline, int instance) {
  return {static_cast<uint32>(args.get_int32(timeline, "timeline")),
          args.get_int64(instance, "instance")};
}

const Cluster& cluster_here() {
  return cluster_without_slots(open_tables_for_anyone({Table::cluster}));
}

/// Nobody ends a prepared transaction until the end of this one; what is known afterwards is
/// true.
void close_fence() {
  pg::acquire_lock(pg::LockKind::fence, 0);
  AcceptInvalidationMessages();
}

void write_server(int64 coordinator_id, remote::Incarnation server) {
  const Store store = open_store();
  pg::with_spi([&] {
    pg::as_store_owner(store.owner, [&] {
      note_server.run(0, {pg::Value(Int64GetDatum(coordinator_id)),
                          pg::Value(Int32GetDatum(static_cast<int32>(server.timeline))),
                          pg::Value(Int64GetDatum(server.instance))});
    });
  });
  invalidate_store();
  CommandCounterIncrement();
}

bool adopts(const Cluster& here, pg::Value former) {
  if (former.null) return false;
  const int64 id = DatumGetInt64(former.datum);
  return here.coordinator_id == id || here.former_id == id;
}

ProcessUtility_hook_type next_hook = nullptr;

/// OP503 when the fence was closed since this session joined. A PREPARE decides nothing, and would
/// keep the lock.
void pass_fence(bool decides) {
  const LOCKTAG tag = pg::lock_tag(pg::LockKind::fence, 0);
  if (decides) (void)LockAcquire(&tag, ShareLock, false, false);
  AcceptInvalidationMessages();
  if (!store_present()) return;
  const Store& store = open_tables_at_any_layout({Table::cluster});
  if (!store.layout.has_receipts()) return;
  const Cluster& here = cluster_without_slots(store);
  // One that is just being added does not know its coordinator before the commit.
  if (here.role != Role::shard) return;
  require_coordinator(here, joined.coordinator_id, here.shard_id);
  require_not_older(here, joined.server);
}

void check_command(PlannedStmt* statement, const char* text, bool read_only,
                   ProcessUtilityContext context, ParamListInfo parameters,
                   QueryEnvironment* environment, DestReceiver* receiver,
                   QueryCompletion* completion) {
  const auto* const command = reinterpret_cast<const TransactionStmt*>(statement->utilityStmt);
  if (joined.server.timeline != 0 && IsA(command, TransactionStmt) &&
      (command->kind == TRANS_STMT_COMMIT_PREPARED ||
       command->kind == TRANS_STMT_ROLLBACK_PREPARED || command->kind == TRANS_STMT_PREPARE))
    pass_fence(command->kind != TRANS_STMT_PREPARE);
  if (next_hook != nullptr)
    next_hook(statement, text, read_only, context, parameters, environment, receiver, completion);
  else
    standard_ProcessUtility(statement, text, read_only, context, parameters, environment, receiver,
                            completion);
}

}  // namespace

void watch_commands() {
  next_hook = ProcessUtility_hook;
  ProcessUtility_hook = check_command;
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_join_cluster);
Datum order_proc_join_cluster(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 coordinator_id = args.get_int64(0, "coordinator_id");
  require_coordinator(cluster_here(), coordinator_id, args.get_int32(1, "shard_id"));
  PG_RETURN_INT32(MyProcPid);
}

PG_FUNCTION_INFO_V1(order_proc_join_cluster_fenced);
Datum order_proc_join_cluster_fenced(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 coordinator_id = args.get_int64(0, "coordinator_id");
  const int shard_id = args.get_int32(1, "shard_id");
  const remote::Incarnation server = server_of(args, 2, 3);
  const Cluster& here = cluster_here();
  require_coordinator(here, coordinator_id, shard_id);
  require_not_older(here, server);
  joined = {coordinator_id, server};
  if (!(here.coordinator_here == server)) PG_RETURN_NULL();
  PG_RETURN_INT32(MyProcPid);
}

PG_FUNCTION_INFO_V1(order_proc_register_coordinator);
Datum order_proc_register_coordinator(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 coordinator_id = args.get_int64(0, "coordinator_id");
  const int shard_id = args.get_int32(1, "shard_id");
  const remote::Incarnation server = server_of(args, 2, 3);
  const pg::Value former(fcinfo->args[4].value, args.null(4));
  require_store_owner(open_store(), "register coordinators");
  joined = {coordinator_id, server};
  if (cluster_here().role != Role::shard) PG_RETURN_VOID();
  if (cluster_here().coordinator_id == coordinator_id && cluster_here().coordinator_here == server)
    PG_RETURN_VOID();
  PreventCommandIfReadOnly("register_coordinator");
  close_fence();
  const Cluster& here = cluster_here();
  if (here.coordinator_id == coordinator_id || !adopts(here, former)) {
    require_coordinator(here, coordinator_id, shard_id);
    require_not_older(here, server);
  }
  write_server(coordinator_id, server);
  PG_RETURN_VOID();
}

}  // extern "C"

}  // namespace order_proc
