// Changing and deleting orders.
#include "pg/args.hpp"
#include "pg/arrays.hpp"
#include "pg/spi.hpp"
#include "routing.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

pg::Statement lock_orders{
    "SELECT o.id FROM order_store.orders AS o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) "
    "ORDER BY o.id USING OPERATOR(pg_catalog.<) FOR NO KEY UPDATE",
    INT8ARRAYOID};
pg::Statement sum_up{
    "UPDATE order_store.orders AS o SET updated_at = pg_catalog.now(), total_amount = COALESCE(("
    "SELECT pg_catalog.sum(i.quantity::pg_catalog.numeric OPERATOR(pg_catalog.*) i.price) "
    "FROM order_store.order_items AS i WHERE i.order_id OPERATOR(pg_catalog.=) o.id), "
    "0::pg_catalog.numeric) "
    "WHERE o.id OPERATOR(pg_catalog.=) ANY ($1)",
    INT8ARRAYOID};
pg::Statement delete_by_id{
    "DELETE FROM order_store.orders AS o WHERE o.id OPERATOR(pg_catalog.=) $1", INT8OID};

/// Each shard gets its own orders, all at once; the sum of what they set.
Datum refresh_on_shards(FunctionCallInfo fcinfo, const Cluster& cluster,
                        std::span<const int64> order_ids) {
  RemoteCall call(fcinfo, remote::Use::write);
  auto* const part =
      static_cast<int64*>(palloc_extended(sizeof(int64) * (order_ids.size() + 1), MCXT_ALLOC_HUGE));
  const auto connections = connect_all(cluster, false);
  std::size_t started = 0;
  for (remote::Connection* const connection : connections) {
    std::size_t count = 0;
    for (const int64 id : order_ids)
      if (shard_of_order(cluster, id).shard_id == connection->shard_id) part[count++] = id;
    if (count == 0) continue;
    call.set(0, pg::Value(
                    pg::make_array<int64>(count, INT8OID, [&](std::size_t i) { return part[i]; })));
    call.start(*connection);
    connections[started++] = connection;
  }
  int64 sum = 0;
  for (remote::Connection* const connection : connections.subspan(0, started))
    while (const auto value = call.next(*connection)) sum += DatumGetInt64(value->datum);
  PG_RETURN_INT64(sum);
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_refresh_order_totals);
Datum order_proc_refresh_order_totals(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  (void)args.get_int64s(0, "order_ids");
  if (const Cluster* const cluster = routed(changes_totals))
    return refresh_on_shards(fcinfo, *cluster, args.get_int64s(0, "order_ids"));
  const pg::Value order_ids(args.datum(0, "order_ids"));
  (void)open_store({{Table::orders, RowExclusiveLock}, {Table::order_items, AccessShareLock}});
  const uint64 refreshed = pg::with_spi([&] {
    // In one order for all sessions, so that two of them cannot wait for each other; then summed
    // with a snapshot taken under the locks.
    lock_orders.run(0, {order_ids});
    SPI_freetuptable(SPI_tuptable);
    return sum_up.run(0, {order_ids});
  });
  PG_RETURN_INT64(static_cast<int64>(refreshed));
}

PG_FUNCTION_INFO_V1(order_proc_delete_order);
Datum order_proc_delete_order(PG_FUNCTION_ARGS) {
  const int64 order_id = pg::Args(fcinfo).get_int64(0, "order_id");
  if (const Cluster* const cluster = routed(deletes_orders))
    return call_on_shard(fcinfo, route_of_order(*cluster, order_id), remote::Use::write);
  (void)open_store({{Table::orders, RowExclusiveLock}});
  PG_RETURN_BOOL(
      pg::with_spi([&] { return delete_by_id.run(0, {pg::Value(Int64GetDatum(order_id))}) > 0; }));
}

}  // extern "C"

}  // namespace order_proc
