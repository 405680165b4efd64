// Making customers.
#include "names.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
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
  return pg::as_user(table_owner(store.table(Table::customers)),
                     [&] { return id_in_use.run(0, {pg::Value(Int64GetDatum(id))}) > 0; });
}

/// Ids given by hand may lie ahead of the sequence: it is moved behind them at once, not one by
/// one.
int64 next_customer_id(const Store& store) {
  int64 id = nextval_internal(store.customers_sequence, true);
  if (!in_use(store, id)) return id;
  pg::with_lock(pg::LockKind::customer_sequence, 0, [&] {
    for (;;) {
      id = nextval_internal(store.customers_sequence, true);
      if (!in_use(store, id)) break;
      pg::as_user(table_owner(store.customers_sequence), [&] {
        last_of_run.run(0, {pg::Value(Int64GetDatum(id))});
        (void)DirectFunctionCall2(setval_oid, ObjectIdGetDatum(store.customers_sequence),
                                  pg::result(0, 0).datum);
      });
    }
  });
  return id;
}

pg::Value value_of(pg::Text text) {
  return {text.datum(), !text};
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
