#include "slots.hpp"

#include "pg/args.hpp"
#include "routing.hpp"

namespace order_proc {

int slot_of_customer(const Store& store, int64 customer_id) {
  if (store.placement == core::Placement::modulo) return core::slot_by_modulo(customer_id);
  return core::slot_of_hash(DatumGetUInt64(
      DirectFunctionCall2(hashint8extended, Int64GetDatum(customer_id), Int64GetDatum(0))));
}

namespace {

/// The owner may have taken the sequence's MAXVALUE away.
int64 next_order_number(const Store& store) {
  const int64 number = nextval_internal(store.orders_sequence, true);
  if (number <= core::most_order_number && number >= -core::most_order_number - 1) return number;
  ereport(
      ERROR, errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
      errmsg("sequence \"orders_id_seq\" gives a number that no order id can hold: " INT64_FORMAT,
             number),
      errdetail("An order id is a number up to " INT64_FORMAT " and the slot of its customer.",
                core::most_order_number),
      errhint(
          "Set the sequence back behind the orders that there are: SELECT "
          "setval('order_store.orders_id_seq', (SELECT COALESCE(max(id) >> 12, 1) FROM "
          "order_store.orders)); ALTER SEQUENCE order_store.orders_id_seq MAXVALUE " INT64_FORMAT
          ";",
          core::most_order_number));
}

}  // namespace

int64 next_order_id(const Store& store, int64 customer_id) {
  return core::order_id_of(next_order_number(store), slot_of_customer(store, customer_id));
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
