// Where things are: slots and shards of customers and orders, by the map or by a formula.
#include "cluster.hpp"
#include "core/jump_hash.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "slots.hpp"

namespace order_proc {

namespace {

/// The shard that has the slot, as this database knows.
int shard_with(const Store& store, int slot) {
  const Cluster& here = cluster_of(store);
  if (here.role == Role::alone) return 0;
  if (here.role == Role::coordinator) return shard_of_slot(here, slot).shard_id;
  if (!here.owns(slot))
    ereport(ERROR, errcode(pg::no_shard_for_slot),
            errmsg("shard %d does not have slot %d", here.shard_id, slot),
            errhint("The coordinator knows which shard has it."));
  return here.shard_id;
}

int64 hash_of(int64 customer_id) {
  return DatumGetInt64(
      DirectFunctionCall2(hashint8extended, Int64GetDatum(customer_id), Int64GetDatum(0)));
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_shard_id);
Datum order_proc_shard_id(PG_FUNCTION_ARGS) {
  const Cluster& here = cluster_of(open_store_for_anyone());
  if (here.role != Role::shard) PG_RETURN_NULL();
  PG_RETURN_INT32(here.shard_id);
}

PG_FUNCTION_INFO_V1(order_proc_slot_for_customer);
Datum order_proc_slot_for_customer(PG_FUNCTION_ARGS) {
  const int64 customer_id = pg::Args(fcinfo).get_int64(0, "customer_id");
  PG_RETURN_INT32(slot_of_customer(open_store_for_anyone(), customer_id));
}

PG_FUNCTION_INFO_V1(order_proc_slot_for_order);
Datum order_proc_slot_for_order(PG_FUNCTION_ARGS) {
  PG_RETURN_INT32(core::slot_of_order(pg::Args(fcinfo).get_int64(0, "order_id")));
}

PG_FUNCTION_INFO_V1(order_proc_shard_for_customer);
Datum order_proc_shard_for_customer(PG_FUNCTION_ARGS) {
  const int64 customer_id = pg::Args(fcinfo).get_int64(0, "customer_id");
  const Store& store = open_store_for_anyone();
  PG_RETURN_INT32(shard_with(store, slot_of_customer(store, customer_id)));
}

PG_FUNCTION_INFO_V1(order_proc_shard_for_order);
Datum order_proc_shard_for_order(PG_FUNCTION_ARGS) {
  const int64 order_id = pg::Args(fcinfo).get_int64(0, "order_id");
  PG_RETURN_INT32(shard_with(open_store_for_anyone(), core::slot_of_order(order_id)));
}

PG_FUNCTION_INFO_V1(order_proc_shard_for_customer_of);
Datum order_proc_shard_for_customer_of(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 customer_id = args.get_int64(0, "customer_id");
  const int32 count = args.get_int32(1, "num_shards");
  const std::string_view method = args.get_text(2, "method").view();
  if (count < 1)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("num_shards must be positive: %d", count), errhint("Give 1 or more."));
  if (method == "hash")
    PG_RETURN_INT32(core::slot_of_hash(static_cast<uint64>(hash_of(customer_id))) % count);
  if (method == "modulo") PG_RETURN_INT32(pg::core_call(core::floor_mod, customer_id, count));
  if (method == "jump")
    PG_RETURN_INT32(
        pg::core_call(core::jump_hash, static_cast<uint64>(hash_of(customer_id)), count));
  pg::unknown_option("method", method, "Use 'hash', 'modulo' or 'jump'.");
}

}  // extern "C"

}  // namespace order_proc
