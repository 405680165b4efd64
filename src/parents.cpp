#include "parents.hpp"

#include "pg/arrays.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

/// Looked up at once: bounds the memory of a result.
constexpr std::size_t ids_per_query = 20000;

/// A table that others inherit from is asked alone, a partitioned one with its partitions.
struct Lookup {
  pg::Statement plain;
  pg::Statement partitioned;
};

Lookup orders_lookup{pg::Statement{"SELECT p.id FROM ONLY order_store.orders AS p "
                                   "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                   INT8ARRAYOID},
                     pg::Statement{"SELECT p.id FROM order_store.orders AS p "
                                   "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                   INT8ARRAYOID}};
Lookup customers_lookup{pg::Statement{"SELECT p.id FROM ONLY order_store.customers AS p "
                                      "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                      INT8ARRAYOID},
                        pg::Statement{"SELECT p.id FROM order_store.customers AS p "
                                      "WHERE p.id OPERATOR(pg_catalog.=) ANY ($1) FOR KEY SHARE",
                                      INT8ARRAYOID}};

void lock_some(const Store& store, Oid table, pg::Statement& lookup, std::span<const int64> ids,
               bool* known) {
  pg::with_spi([&] {
    const Datum array =
        pg::make_array<int64>(ids.size(), INT8OID, [&](std::size_t i) { return ids[i]; });
    const uint64 count = pg::as_user(
        table_owner(table), [&] { return lookup.run(store.layout.index, {pg::Value(array)}); });
    for (uint64 row = 0; row < count; ++row) {
      const int64 id = DatumGetInt64(pg::result(row, 0).datum);
      const auto at = std::lower_bound(ids.begin(), ids.end(), id);
      if (at != ids.end() && *at == id) known[at - ids.begin()] = true;
    }
  });
}

void lock_rows(const Store& store, Oid table, Lookup& lookup, std::span<const int64> ids,
               bool* known) {
  std::fill_n(known, ids.size(), false);
  pg::Statement& statement =
      get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE ? lookup.partitioned : lookup.plain;
  for (std::size_t first = 0; first < ids.size(); first += ids_per_query) {
    CHECK_FOR_INTERRUPTS();
    const std::size_t count = std::min(ids_per_query, ids.size() - first);
    lock_some(store, table, statement, ids.subspan(first, count), known + first);
  }
}

}  // namespace

void lock_orders(const Store& store, std::span<const int64> ids, bool* known) {
  lock_rows(store, store.table(Table::orders), orders_lookup, ids, known);
}

void lock_customers(const Store& store, std::span<const int64> ids, bool* known) {
  lock_rows(store, store.table(Table::customers), customers_lookup, ids, known);
}

}  // namespace order_proc
