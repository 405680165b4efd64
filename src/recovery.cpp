// The functions that settle, show and adopt; the work is the resolver's.
#include "recovery.hpp"

#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"
#include "resolver.hpp"
#include "routing.hpp"
#include "saga.hpp"

extern "C" {
#include "access/xlog.h"
}

namespace order_proc {

namespace {

/// How long a shard may take to answer.
constexpr int patience = 10000;

pg::Statement adopt_identity{
    "UPDATE order_store.cluster AS c SET coordinator_id = $1, former_id = $2, system_identifier = "
    "$3, database_oid = $4",
    INT8OID, INT8OID, INT8OID, OIDOID};
pg::Statement damaged_decisions{
    "SELECT l.gid, d.shard_id, l.decided_at FROM order_store.commit_log AS l, "
    "LATERAL pg_catalog.unnest(l.damaged) AS d (shard_id) ORDER BY l.decided_at USING "
    "OPERATOR(pg_catalog.<), d.shard_id USING OPERATOR(pg_catalog.<)"};
/// The shards' word is not to be had for decisions that came with a copy: see adopt.
pg::Statement forget_copied{
    "DELETE FROM order_store.commit_log AS l WHERE NOT l.gid OPERATOR(pg_catalog.=) ANY ($1)",
    TEXTARRAYOID};

/// A transaction that used shards may have something prepared itself, or hold what others wait for.
void require_no_remote_transaction(const char* function) {
  if (!remote::in_transaction()) return;
  ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
          errmsg("%s() cannot run in a transaction that used shards", function),
          errhint("COMMIT; SELECT * FROM order_proc.%s();", function));
}

void require_latest_snapshot(const char* function) {
  if (!IsolationUsesXactSnapshot()) return;
  ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
          errmsg("%s() needs a READ COMMITTED transaction", function),
          errhint("Decisions may have been made after the snapshot was taken."));
}

const Cluster& copy_of(const Cluster& cluster) {
  auto* const copy = static_cast<Cluster*>(palloc(sizeof(Cluster)));
  *copy = cluster;
  return *copy;
}

// --- in doubt ----------------------------------------------------------------------------------

const char* name_of(Orphan::Fate fate) {
  switch (fate) {
    case Orphan::Fate::running:
      return "running";
    case Orphan::Fate::commit:
      return "commit";
    case Orphan::Fate::roll_back:
      return "rollback";
    default:
      return "unknown";
  }
}

void add_doubt(const pg::ResultSet& results, const char* gid, int shard_id, TimestampTz since,
               const char* decision) {
  const Datum age = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
                                        TimestampTzGetDatum(since));
  results.add({pg::Value(CStringGetTextDatum(gid)), pg::Value(Int32GetDatum(shard_id)),
               pg::Value(TimestampTzGetDatum(since)), pg::Value(age),
               pg::Value(CStringGetTextDatum(decision))});
}

void add_damaged(const Store& store, const pg::ResultSet& results) {
  const MemoryContext memory = CurrentMemoryContext;
  pg::with_spi([&] {
    const uint64 rows = pg::as_user(table_owner(store.table(Table::commit_log)),
                                    [&] { return damaged_decisions.run(0, {}, true); });
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    for (uint64 row = 0; row < rows; ++row)
      add_doubt(results, TextDatumGetCString(pg::result(row, 0).datum),
                DatumGetInt32(pg::result(row, 1).datum),
                DatumGetTimestampTz(pg::result(row, 2).datum), "damaged");
    MemoryContextSwitchTo(saved);
  });
}

void show_doubts(const Store& store, const Cluster& cluster, const pg::ResultSet& results) {
  const std::span<ShardView> views = view_shards(store, cluster, patience);
  find_fates(store, cluster, views, patience);
  for (const ShardView& view : views) {
    if (view.connection == nullptr)
      ereport(WARNING, errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
              errmsg("shard %d (server \"%s\") cannot be asked: %s", view.target.shard_id,
                     remote::server_name(view.target.server), view.problem));
    for (const Orphan& orphan : view.orphans)
      add_doubt(results, orphan.gid, orphan.shard_id, orphan.since, name_of(orphan.fate));
  }
  add_damaged(store, results);
}

/// The owner of the store, or who watches servers.
void require_watcher(const Store& store) {
  if (has_privs_of_role(GetUserId(), store.owner) ||
      has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
    return;
  ereport(
      ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
      errmsg("must be the owner of the store or have privileges of pg_monitor to see what is "
             "in doubt"),
      errhint("GRANT pg_monitor TO %s;", quote_identifier(GetUserNameFromId(GetUserId(), false))));
}

// --- adopting ----------------------------------------------------------------------------------

/// Makes the shards follow the new id, and ends what the former coordinator left where it is known
/// how. They must all be there.
void adopt_shards(const Store& store, Cluster& cluster, int64 new_id) {
  cluster.former_id = cluster.coordinator_id;
  cluster.coordinator_id = new_id;
  const std::span<ShardView> views = view_shards(store, cluster, patience, cluster.former_id);
  for (const ShardView& view : views)
    if (view.connection == nullptr)
      ereport(ERROR, errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
              errmsg("shard %d (server \"%s\") does not follow: %s", view.target.shard_id,
                     remote::server_name(view.target.server), view.problem),
              errhint("Adopt the cluster when all its shards can be reached."));
  std::size_t most = 0;
  for (const ShardView& view : views) most += view.orphans.size();
  auto* const bases = static_cast<Datum*>(palloc(sizeof(Datum) * (most + 1)));
  std::size_t count = 0;
  for (const ShardView& view : views)
    for (const Orphan& orphan : view.orphans) bases[count++] = CStringGetTextDatum(orphan.base);
  const Datum prepared = PointerGetDatum(
      construct_array(bases, static_cast<int>(count), TEXTOID, -1, false, TYPALIGN_INT));
  pg::with_spi([&] {
    pg::as_user(store.owner, [&] {
      adopt_identity.run(
          0, {pg::Value(Int64GetDatum(new_id)), pg::Value(Int64GetDatum(cluster.former_id)),
              pg::Value(UInt64GetDatum(GetSystemIdentifier())),
              pg::Value(ObjectIdGetDatum(MyDatabaseId))});
      forget_copied.run(0, {pg::Value(prepared)});
    });
  });
}

/// A shard that knows an older server of this coordinator hears of this one.
void register_server(const remote::Target& target) {
  const Store store = open_store_for_anyone();
  auto* const cluster = static_cast<Cluster*>(palloc(sizeof(Cluster)));
  *cluster = cluster_of(store);
  cluster->shards[0] = target;
  cluster->shard_count = 1;
  pg::as_user(store.owner, [&] { (void)view_shards(store, *cluster, patience); });
  pfree(cluster);
}

}  // namespace

void watch_promotions() {
  remote::set_registrar(register_server);
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_recover);
Datum order_proc_recover(PG_FUNCTION_ARGS) {
  PreventCommandIfReadOnly("recover");
  PreventCommandIfParallelMode("recover");
  require_latest_snapshot("recover");
  const pg::ResultSet results(fcinfo);
  const Store store = open_store();
  require_store_owner(store, "recover transactions");
  const Cluster* const cluster = routed({});
  if (cluster != nullptr) {
    require_no_remote_transaction("recover");
    (void)settle_all(store, copy_of(*cluster), &results, patience);
  }
  compensate_sagas(store, &results);
  return results.done();
}

PG_FUNCTION_INFO_V1(order_proc_in_doubt_transactions);
Datum order_proc_in_doubt_transactions(PG_FUNCTION_ARGS) {
  PreventCommandIfParallelMode("in_doubt_transactions");
  const pg::ResultSet results(fcinfo);
  const Store store = open_store_for_anyone();
  require_watcher(store);
  const Cluster& cluster = cluster_of(store);
  if (cluster.role != Role::coordinator) return results.done();
  require_original(cluster);
  const Cluster& copy = copy_of(cluster);
  pg::as_user(store.owner, [&] { show_doubts(store, copy, results); });
  return results.done();
}

PG_FUNCTION_INFO_V1(order_proc_adopt_cluster);
Datum order_proc_adopt_cluster(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  PreventCommandIfReadOnly("adopt_cluster");
  PreventCommandIfParallelMode("adopt_cluster");
  require_latest_snapshot("adopt_cluster");
  require_store_owner(open_store(), "adopt its cluster");
  require_no_remote_transaction("adopt_cluster");
  LockRelationOid(open_store().table(Table::shards), ShareRowExclusiveLock);
  const Store store = open_store();
  require_one_owner(store);
  const Cluster& cluster = cluster_of(store);
  if (cluster.role == Role::shard)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("this database is shard %d of cluster " INT64_FORMAT, cluster.shard_id,
                   cluster.coordinator_id),
            errhint("Call adopt_cluster on the coordinator, or a copy of it."));
  if (cluster.role != Role::coordinator)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("this database does not coordinate a cluster"),
            errhint("SELECT order_proc.add_shard('server');"));
  const int64 id = new_coordinator_id();
  auto* const copy = static_cast<Cluster*>(palloc(sizeof(Cluster)));
  *copy = cluster;
  adopt_shards(store, *copy, id);
  invalidate_store();
  CommandCounterIncrement();
  PG_RETURN_INT64(id);
}

}  // extern "C"

}  // namespace order_proc
