// create_restore_point: a named point in the logs of all servers of a cluster, with no transaction
// over shards half before it: the servers recovered to it fit together.
#include "consistent_cut.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/srf.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"

namespace order_proc {

namespace {

/// Of recovery_target_name.
constexpr std::size_t longest_name = 63;

void check_name(std::string_view name) {
  if (name.empty() || name.size() > longest_name)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("name must have 1 to %zu bytes: \"%s\"", longest_name, pg::shown(name)),
            errdetail("It has %zu bytes.", name.size()),
            errhint("It is what recovery_target_name will be."));
  if (std::any_of(name.begin(), name.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("name must not contain control characters"),
            errhint("It is what recovery_target_name will be."));
}

pg::Statement mark_log{"SELECT pg_catalog.pg_create_restore_point($1)", TEXTOID};

Datum mark_here(pg::Text name) {
  return pg::with_spi([&] {
    mark_log.run(0, {pg::Value(name.datum())});
    return pg::result(0, 0).datum;
  });
}

void start_mark(remote::Connection& connection, pg::Text name) {
  const std::array<const char*, 1> values{text_to_cstring(name.value)};
  remote::begin(connection, remote::Use::read);
  remote::queue_text(connection, "SELECT pg_catalog.pg_create_restore_point($1)",
                     remote::Step::call, {{}, values, {}, {}});
  remote::send(connection);
}

Datum finish_mark(remote::Connection& connection) {
  const PGresult* const result = remote::next_result(connection);
  Datum lsn = 0;
  if (result != nullptr && PQntuples(result) == 1)
    lsn = DirectFunctionCall1(pg_lsn_in, CStringGetDatum(remote::cell(result, 0, 0)));
  (void)remote::next_result(connection);
  remote::raise_error(connection);
  return lsn;
}

/// All logs at once, the coordinator's last in the result.
void mark_all(std::span<remote::Connection* const> connections, pg::Text name,
              const pg::ResultSet& results) {
  for (remote::Connection* const connection : connections) start_mark(*connection, name);
  const Datum here = mark_here(name);
  for (remote::Connection* const connection : connections)
    results.add(
        {pg::Value(Int32GetDatum(connection->shard_id)), pg::Value(finish_mark(*connection))});
  results.add({pg::Value{}, pg::Value(here)});
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_create_restore_point);
Datum order_proc_create_restore_point(PG_FUNCTION_ARGS) {
  const pg::Text name = pg::Args(fcinfo).get_text(0, "name");
  check_name(name.view());
  PreventCommandIfReadOnly("create_restore_point");
  PreventCommandIfParallelMode("create_restore_point");
  const pg::ResultSet results(fcinfo);
  const Cluster& here = cluster_of(open_store());
  if (here.role == Role::shard)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("this database is shard %d of a cluster", here.shard_id),
            errhint("Call create_restore_point on the coordinator."));
  if (here.role == Role::alone) {
    mark_all({}, name, results);
    return results.done();
  }
  require_original(here);
  const auto connections = connect_all(here, false);
  // Receipts are forgotten step by step, and no log may have a step without the one before.
  pg::with_lock(pg::LockKind::receipts, 0, [&] {
    close_commit_barrier(connections);
    mark_all(connections, name, results);
    open_commit_barrier();
  });
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
