// Lists and pages of orders: plain SQL as the caller, rows straight into the result. Each
// combination of filters has a statement of its own, planned with the values at hand: LIMIT and a
// selective filter decide which of the indexes is the right one.
#include "merge.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/srf.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

#define NEWEST_FIRST \
  "ORDER BY o.created_at USING OPERATOR(pg_catalog.>), o.id USING OPERATOR(pg_catalog.>) "
#define ORDERS "SELECT {order_columns} FROM order_store.orders AS o "
#define OF_CUSTOMER "o.customer_id OPERATOR(pg_catalog.=) $4 "
#define OF_STATUS "o.status OPERATOR(pg_catalog.=) $5 "
#define AFTER "ROW(o.created_at, o.id) OPERATOR(pg_catalog.<) ROW($2, $3) "
#define KEYSET_TYPES INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID

constexpr pg::Statement page_statement(const char* text) {
  return pg::Statement{text, KEYSET_TYPES}.planned_each_time();
}

/// By filters: bit 0 customer, bit 1 status, bit 2 behind a key.
std::array<pg::Statement, 8> pages{
    page_statement(ORDERS NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " OF_CUSTOMER NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " OF_STATUS NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " OF_CUSTOMER "AND " OF_STATUS NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " AFTER NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " OF_CUSTOMER "AND " AFTER NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " OF_STATUS "AND " AFTER NEWEST_FIRST "LIMIT $1"),
    page_statement(ORDERS "WHERE " OF_CUSTOMER "AND " OF_STATUS "AND " AFTER NEWEST_FIRST
                          "LIMIT $1"),
};

pg::Statement offset_page =
    pg::Statement{ORDERS NEWEST_FIRST "LIMIT $1 OFFSET $2", INT8OID, INT8OID}.planned_each_time();
pg::Statement all_orders{ORDERS NEWEST_FIRST};
pg::Statement counts{
    "SELECT o.status, pg_catalog.count(*) FROM order_store.orders AS o GROUP BY o.status "
    "ORDER BY o.status USING OPERATOR(pg_catalog.<)"};

#undef NEWEST_FIRST
#undef ORDERS
#undef OF_CUSTOMER
#undef OF_STATUS
#undef AFTER
#undef KEYSET_TYPES

int64 not_negative(const pg::Args& args, int i, const char* name) {
  const int32 value = args.get_int32(i, name);
  if (value < 0)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("%s must not be negative: %d", name, value), errhint("Give 0 or more."));
  return value;
}

/// Runs the statement as the caller, into the result of the function.
Datum list(FunctionCallInfo fcinfo, pg::Statement& statement,
           std::initializer_list<pg::Value> values) {
  const std::size_t layout = open_store({{Table::orders, AccessShareLock}}).layout.index;
  const pg::ResultSet results(fcinfo);
  pg::with_spi([&] { statement.run_into(layout, values, results.receiver()); });
  return results.done();
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_list_orders_paginated);
Datum order_proc_list_orders_paginated(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 limit = not_negative(args, 0, "page_limit");
  const int64 offset = not_negative(args, 1, "page_offset");
  if (const Cluster* const cluster = routed(reads_orders)) {
    // All rows of the page and before it may be one shard's.
    RemoteCall call(fcinfo, remote::Use::read);
    call.set(0, pg::Value(Int32GetDatum(
                    static_cast<int32>(std::min<int64>(limit + offset, PG_INT32_MAX)))));
    call.set(1, pg::Value(Int32GetDatum(0)));
    return merge_newest(fcinfo, call, *cluster, offset, limit);
  }
  return list(fcinfo, offset_page,
              {pg::Value(Int64GetDatum(limit)), pg::Value(Int64GetDatum(offset))});
}

PG_FUNCTION_INFO_V1(order_proc_list_orders_after);
Datum order_proc_list_orders_after(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 limit = not_negative(args, 0, "page_limit");
  const auto value = [&](int i) {
    return args.null(i) ? pg::Value{} : pg::Value(args.datum(i, ""));
  };
  if (args.null(1) != args.null(2))
    pg::null_argument(args.null(1) ? "after_created_at" : "after_id");
  if (const Cluster* const cluster = routed(reads_orders)) {
    RemoteCall call(fcinfo, remote::Use::read);
    return merge_newest(fcinfo, call, *cluster, 0, limit);
  }
  const std::size_t filters =
      (args.null(3) ? 0U : 1U) | (args.null(4) ? 0U : 2U) | (args.null(1) ? 0U : 4U);
  return list(fcinfo, pages[filters],
              {pg::Value(Int64GetDatum(limit)), value(1), value(2), value(3), value(4)});
}

PG_FUNCTION_INFO_V1(order_proc_list_orders);
Datum order_proc_list_orders(PG_FUNCTION_ARGS) {
  if (const Cluster* const cluster = routed(reads_orders)) {
    RemoteCall call(fcinfo, remote::Use::read);
    return merge_newest(fcinfo, call, *cluster, 0, -1);
  }
  return list(fcinfo, all_orders, {});
}

PG_FUNCTION_INFO_V1(order_proc_order_counts);
Datum order_proc_order_counts(PG_FUNCTION_ARGS) {
  if (const Cluster* const cluster = routed(reads_statuses)) return merge_counts(fcinfo, *cluster);
  return list(fcinfo, counts, {});
}

}  // extern "C"

}  // namespace order_proc
