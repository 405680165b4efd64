// What is known of a failure is copied before the connection is closed; the caller takes the
// connection out of what it goes on with.
#include "left_out.hpp"

#include "consistent_cut.hpp"

namespace order_proc {

namespace {

void warn_unreachable(int shard_id, Oid server, const char* reason) {
  if (!remote::server_exists(server)) return remote::tell_no_server(WARNING, shard_id);
  ereport(WARNING, errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
          errmsg("could not connect to shard %d (server \"%s\")", shard_id,
                 remote::server_name(server)),
          reason == nullptr || *reason == '\0' ? 0 : errdetail_internal("%s", reason));
}

void tell_silent(int level, const remote::Connection& connection, int milliseconds,
                 const char* detail) {
  ereport(level, errcode(ERRCODE_CONNECTION_FAILURE),
          errmsg("shard %d (server \"%s\") did not answer within %d ms", connection.shard_id,
                 remote::server_name(connection.server), milliseconds),
          detail == nullptr ? 0 : errdetail_internal("%s", detail),
          errhint("SELECT * FROM order_proc.shard_status;"));
}

}  // namespace

std::span<remote::Connection*> connect_those_up(const Cluster& cluster) {
  const std::span<remote::Connection*> connections{
      static_cast<remote::Connection**>(
          palloc0(sizeof(remote::Connection*) * (cluster.shard_count + 1))),
      cluster.shard_count};
  const std::span<const char*> reasons{
      static_cast<const char**>(palloc0(sizeof(char*) * (cluster.shard_count + 1))),
      cluster.shard_count};
  remote::connect(cluster.targets(), connections, reads_may_lag(), reasons);
  std::size_t count = 0;
  for (std::size_t i = 0; i < connections.size(); ++i)
    if (connections[i] != nullptr)
      connections[count++] = connections[i];
    else
      warn_unreachable(cluster.shards[i].shard_id, cluster.shards[i].server, reasons[i]);
  return connections.subspan(0, count);
}

bool reopen(remote::Connection& connection, OnFailure on_failure) {
  if (on_failure == OnFailure::error) return remote::reopen(connection);
  const char* reason = nullptr;
  if (remote::reopen(connection, {&reason, 1})) return true;
  warn_unreachable(connection.shard_id, connection.server, reason);
  return false;
}

void leave_out_lost(remote::Connection& connection) {
  const char* const why = remote::reason(connection);
  remote::close_connection(connection);
  ereport(WARNING, errcode(ERRCODE_CONNECTION_FAILURE),
          errmsg("the connection to shard %d (server \"%s\") was lost", connection.shard_id,
                 remote::server_name(connection.server)),
          why == nullptr ? 0 : errdetail_internal("%s", why));
}

void leave_out_silent(remote::Connection& connection, int milliseconds, const char* detail) {
  remote::close_connection(connection);
  tell_silent(WARNING, connection, milliseconds, detail);
}

void raise_silent(const remote::Connection& connection, int milliseconds, const char* detail) {
  tell_silent(ERROR, connection, milliseconds, detail);
  pg_unreachable();
}

}  // namespace order_proc
