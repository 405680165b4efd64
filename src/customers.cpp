// Making customers.
#include "names.hpp"
#include "pg/args.hpp"
#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/savepoint.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"
#include "slots.hpp"
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

pg::Statement insert_customer_returning{
    "INSERT INTO order_store.customers (id, email{name_columns}) VALUES ($1, $2{name_values}) "
    "RETURNING id",
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

pg::Statement ids_in_use{
    "SELECT c.id FROM order_store.customers AS c WHERE c.id OPERATOR(pg_catalog.>=) $1 "
    "AND c.id OPERATOR(pg_catalog.<=) $2",
    INT8OID, INT8OID};

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

struct NewCustomer {
  int64 id;
  pg::Text name;
  pg::Text first;
  pg::Text last;
  pg::Text email;
};

bool has_rules(Oid table) {
  const Relation relation = table_open(table, NoLock);
  const bool rules = relation->rd_rules != nullptr;
  table_close(relation, NoLock);
  return rules;
}

/// Whether RETURNING asks for nothing that the caller, who need only insert, may not have.
bool may_return_id(Oid customers) {
  const std::array id{get_attnum(customers, "id")};
  return pg::caller_may({customers, ACL_INSERT | ACL_SELECT, id, id}) &&
         check_enable_rls(customers, InvalidOid, true) != RLS_ENABLED;
}

[[noreturn]] void not_written(int64 id) {
  ereport(ERROR, errcode(pg::store_mismatch),
          errmsg("order_store.customers did not take customer " INT64_FORMAT, id),
          errdetail("A trigger or rule of the table left the row out, or gave it another id."),
          errhint("\\d order_store.customers lists them."));
}

/// Inserts as the caller does; the id that was written, which user code may have changed.
int64 insert(const Store& store, const NewCustomer& customer) {
  const Oid customers = store.table(Table::customers);
  const std::initializer_list<pg::Value> values{pg::Value(Int64GetDatum(customer.id)),
                                                value_of(customer.email), value_of(customer.name),
                                                value_of(customer.first), value_of(customer.last)};
  if (!others_may_change_rows(customers, TRIGGER_TYPE_INSERT)) {
    insert_customer.run(store.layout.index, values);
    return customer.id;
  }
  const bool was_there = in_use(store, customer.id);
  const bool returns = may_return_id(customers) && !has_rules(customers);
  pg::Statement& statement = returns ? insert_customer_returning : insert_customer;
  const uint64 written = statement.run(store.layout.index, values);
  if (returns && written == 1) return DatumGetInt64(pg::result(0, 0).datum);
  // Into a table that inherits, for one.
  if (was_there || !in_use(store, customer.id)) not_written(customer.id);
  return customer.id;
}

// Over shards: which ids are in use is asked for in windows, of all shards at once.

constexpr int first_window = 256;
constexpr int most_in_window = 65536;

remote::Statement ask_ids_in_use{"SELECT order_proc.customer_ids_in_use($1, $2)"};

/// Adds what a shard says to the bits.
void take_ids_in_use(remote::Connection& connection, std::span<uint8> bits) {
  if (const PGresult* const result = remote::next_result(connection)) {
    const auto* const bytes = reinterpret_cast<const uint8*>(remote::cell(result, 0, 0));
    const auto size = static_cast<std::size_t>(std::max(PQgetlength(result, 0, 0), 0));
    for (std::size_t i = 0; i < std::min(size, bits.size()); ++i) bits[i] |= bytes[i];
    (void)remote::next_result(connection);
  }
  remote::raise_error(connection);
}

/// The first id from `id` on that no shard has; nullopt beyond `most`.
std::optional<int64> free_id_on_shards(const Cluster& cluster, int64 id, int64 most) {
  const auto connections = connect_all(cluster, false);
  const std::span<uint8> bits{static_cast<uint8*>(palloc(most_in_window / 8)), most_in_window / 8};
  for (int window = first_window;; window = most_in_window) {
    std::fill(bits.begin(), bits.end(), uint8{0});
    const std::array<const char*, 2> values{psprintf(INT64_FORMAT, id), psprintf("%d", window)};
    for (remote::Connection* const connection : connections) {
      remote::begin(*connection, remote::Use::transaction);
      remote::queue(*connection, ask_ids_in_use, remote::Step::call, {{}, values, {}, {}, 1});
      remote::send(*connection);
    }
    for (remote::Connection* const connection : connections) take_ids_in_use(*connection, bits);
    for (int i = 0; i < window; ++i, ++id) {
      if ((bits[static_cast<std::size_t>(i / 8)] & (1 << (i % 8))) == 0) return id;
      if (id == most) return std::nullopt;
    }
  }
}

/// The next id of the sequence that no shard has, behind a run of ids in use.
int64 jump_on_shards(const Store& store, const Cluster& cluster) {
  const HeapTuple row = SearchSysCache1(SEQRELID, ObjectIdGetDatum(store.customers_sequence));
  if (!HeapTupleIsValid(row)) no_id_left();
  const auto* const sequence = reinterpret_cast<Form_pg_sequence>(GETSTRUCT(row));
  const bool jumps = can_jump(*sequence) && store.layout.has_routed_imports();
  const int64 most = sequence->seqmax;
  ReleaseSysCache(row);
  const int64 next = nextval_internal(store.customers_sequence, true);
  if (!jumps) return next;
  const auto free = free_id_on_shards(cluster, next, most);
  if (!free) no_id_left();
  if (*free != next)
    pg::as_user(table_owner(store.customers_sequence), [&] {
      (void)DirectFunctionCall2(setval_oid, ObjectIdGetDatum(store.customers_sequence),
                                Int64GetDatum(*free));
    });
  return *free;
}

/// On the shard that the id leads to. The coordinator's sequence makes ids that are unique over the
/// cluster; those that are in use there already (23505) are passed over.
Datum create_on_shard(FunctionCallInfo fcinfo, const Cluster& cluster,
                      std::optional<int64> given_id) {
  if (given_id)
    return call_on_shard(fcinfo, route_of_customer(cluster, *given_id), remote::Use::write);
  PreventCommandIfReadOnly("create_customer");
  PreventCommandIfParallelMode("create_customer");
  RemoteCall call(fcinfo, remote::Use::write);
  const Store store = open_store();
  int64 id = nextval_internal(store.customers_sequence, true);
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    call.set(3, pg::Value(Int64GetDatum(id)));
    Datum made = 0;
    ErrorData* const error =
        pg::in_savepoint([&] { made = call.run(route_of_customer(cluster, id)); });
    if (error == nullptr) return made;
    if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION) ReThrowError(error);
    FreeErrorData(error);
    id = pg::with_lock(pg::LockKind::customer_sequence, 0,
                       [&] { return jump_on_shards(store, cluster); });
  }
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_customer_ids_in_use);
Datum order_proc_customer_ids_in_use(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 first = args.get_int64(0, "first");
  const int32 count = args.get_int32(1, "count");
  if (count < 1 || count > most_in_window)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("count must be from 1 to %d: %d", most_in_window, count),
            errhint("order_proc.create_customer on the coordinator asks piece by piece."));
  const Store store = open_store({{Table::customers, AccessShareLock}});
  const Oid customers = store.table(Table::customers);
  if (!pg::caller_may({customers, ACL_INSERT, {}, {}}))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "customers");
  const int64 last = first > PG_INT64_MAX - (count - 1) ? PG_INT64_MAX : first + (count - 1);
  const auto size = static_cast<std::size_t>((count + 7) / 8);
  auto* const bits = static_cast<bytea*>(palloc0(VARHDRSZ + size));
  SET_VARSIZE(bits, VARHDRSZ + size);
  pg::with_spi([&] {
    const uint64 rows = pg::as_user(table_owner(customers), [&] {
      return ids_in_use.run(0, {pg::Value(Int64GetDatum(first)), pg::Value(Int64GetDatum(last))});
    });
    for (uint64 row = 0; row < rows; ++row) {
      const int64 at = DatumGetInt64(pg::result(row, 0).datum) - first;
      VARDATA(bits)[at / 8] = static_cast<char>(VARDATA(bits)[at / 8] | (1 << (at % 8)));
    }
  });
  PG_RETURN_BYTEA_P(bits);
}

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
    require_slot(store, slot_of_customer(store, chosen));
    return insert(store, {chosen, name, first, last, email});
  });
  PG_RETURN_INT64(id);
}

}  // extern "C"

}  // namespace order_proc
