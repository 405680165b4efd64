// Making customers.
#include "names.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/savepoint.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "routing.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

pg::Statement insert_customer{
    "INSERT INTO order_store.customers (id, email{name_columns}) VALUES ($1, $2{name_values})",
    INT8OID,
    TEXTOID,
    TEXTOID,
    TEXTOID,
    TEXTOID};

pg::Statement id_in_use{
    "SELECT 1 FROM order_store.customers AS c WHERE c.id OPERATOR(pg_catalog.=) $1", INT8OID};

/// The end of the run of ids in use that begins at $1.
pg::Statement last_of_run{
    "SELECT c.id FROM order_store.customers AS c WHERE c.id OPERATOR(pg_catalog.>=) $1 "
    "AND c.id OPERATOR(pg_catalog.<) 9223372036854775807 AND NOT EXISTS ("
    "SELECT FROM order_store.customers AS n WHERE n.id OPERATOR(pg_catalog.=) (c.id "
    "OPERATOR(pg_catalog.+) 1)) "
    "ORDER BY c.id USING OPERATOR(pg_catalog.<) LIMIT 1",
    INT8OID};

/// As the owner, so that rows hidden from the caller count, too.
bool in_use(const Store& store, int64 id) {
  const bool found = pg::as_user(table_owner(store.table(Table::customers)), [&] {
    return id_in_use.run(0, {pg::Value(Int64GetDatum(id))}) > 0;
  });
  SPI_freetuptable(SPI_tuptable);
  return found;
}

/// A sequence that only goes up can be moved behind a run of ids in use at once.
bool can_jump(const FormData_pg_sequence& sequence) {
  return sequence.seqincrement > 0 && !sequence.seqcycle;
}

/// Moves the sequence behind the run of ids in use that begins at `id`, as its owner.
void jump(const Store& store, int64 id, int64 most) {
  pg::as_user(table_owner(store.customers_sequence), [&] {
    const bool found = last_of_run.run(0, {pg::Value(Int64GetDatum(id))}) > 0;
    const int64 last = found ? DatumGetInt64(pg::result(0, 0).datum) : most;
    SPI_freetuptable(SPI_tuptable);
    (void)DirectFunctionCall2(setval_oid, ObjectIdGetDatum(store.customers_sequence),
                              Int64GetDatum(std::min(last, most)));
  });
}

[[noreturn]] void no_id_left() {
  ereport(
      ERROR, errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
      errmsg("all ids of sequence \"customers_id_seq\" are in use"),
      errhint("Give an id, or ALTER SEQUENCE order_store.customers_id_seq NO CYCLE NO MAXVALUE;"));
}

/// The next id behind those in use, one lap of the sequence at most.
int64 free_id(const Store& store, int64 first) {
  const HeapTuple row = SearchSysCache1(SEQRELID, ObjectIdGetDatum(store.customers_sequence));
  if (!HeapTupleIsValid(row)) no_id_left();
  const auto* const sequence = reinterpret_cast<Form_pg_sequence>(GETSTRUCT(row));
  const bool jumps = can_jump(*sequence);
  const int64 most = sequence->seqmax;
  ReleaseSysCache(row);
  int64 id = first;
  do {
    CHECK_FOR_INTERRUPTS();
    if (jumps) jump(store, id, most);
    id = nextval_internal(store.customers_sequence, true);
    if (id == first) no_id_left();
  } while (in_use(store, id));
  return id;
}

/// Ids given by hand may lie ahead of the sequence.
int64 next_customer_id(const Store& store) {
  const int64 id = nextval_internal(store.customers_sequence, true);
  if (!in_use(store, id)) return id;
  return pg::with_lock(pg::LockKind::customer_sequence, 0, [&] { return free_id(store, id); });
}

pg::Value value_of(pg::Text text) {
  return {text.datum(), !text};
}

/// On the shard that the id leads to. The coordinator's sequence makes ids that are unique over the
/// cluster; one that is in use there already (23505) is passed over.
Datum create_on_shard(FunctionCallInfo fcinfo, const Cluster& cluster,
                      std::optional<int64> given_id) {
  if (given_id)
    return call_on_shard(fcinfo, shard_of_customer(cluster, *given_id), remote::Use::write);
  PreventCommandIfReadOnly("create_customer");
  PreventCommandIfParallelMode("create_customer");
  RemoteCall call(fcinfo, remote::Use::write);
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    const int64 id = nextval_internal(open_store().customers_sequence, true);
    call.set(3, pg::Value(Int64GetDatum(id)));
    const remote::Target target = shard_of_customer(cluster, id);
    Datum made = 0;
    ErrorData* const error = pg::in_savepoint([&] { made = call.run_on(target); });
    if (error == nullptr) return made;
    if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION) ReThrowError(error);
    FreeErrorData(error);
  }
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_create_customer);
Datum order_proc_create_customer(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const pg::Text first = args.find_text(0);
  const pg::Text last = args.find_text(1);
  const pg::Text email = args.find_text(2);
  const auto given_id = args.find_int64(3);
  const pg::Text name = full_name(first, last);
  if (const Cluster* const cluster = routed(makes_customers))
    return create_on_shard(fcinfo, *cluster, given_id);
  const Store store = open_store({{Table::customers, RowExclusiveLock}});
  const int64 id = pg::with_spi([&] {
    const int64 chosen = given_id ? *given_id : next_customer_id(store);
    insert_customer.run(store.layout.index, {pg::Value(Int64GetDatum(chosen)), value_of(email),
                                             value_of(name), value_of(first), value_of(last)});
    return chosen;
  });
  PG_RETURN_INT64(id);
}

}  // extern "C"

}  // namespace order_proc
