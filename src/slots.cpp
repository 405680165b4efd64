#include "slots.hpp"

#include "pg/args.hpp"
#include "routing.hpp"

namespace order_proc {

int slot_of_customer(const Store& store, int64 customer_id) {
  if (store.placement == core::Placement::modulo) return core::slot_by_modulo(customer_id);
  return core::slot_of_hash(DatumGetUInt64(
      DirectFunctionCall2(hashint8extended, Int64GetDatum(customer_id), Int64GetDatum(0))));
}

int64 next_order_id(const Store& store, int64 customer_id) {
  return core::order_id_of(nextval_internal(store.orders_sequence, true),
                           slot_of_customer(store, customer_id));
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_new_order_id);
Datum order_proc_new_order_id(PG_FUNCTION_ARGS) {
  const int64 customer_id = pg::Args(fcinfo).get_int64(0, "customer_id");
  if (const Cluster* const cluster = routed(takes_order_ids)) {
    PreventCommandIfReadOnly("nextval()");
    PreventCommandIfParallelMode("nextval()");
    // Not on a standby.
    return call_on_shard(fcinfo, route_of_customer(*cluster, customer_id),
                         remote::Use::transaction);
  }
  PG_RETURN_INT64(next_order_id(open_store(), customer_id));
}

}  // extern "C"

}  // namespace order_proc
