// How two calls with one key meet: a short lock of ours covers the look and the write, and the look
// sees rows of transactions in progress (a dirty snapshot, as unique indexes do) and waits for
// their end. So it works alike under READ COMMITTED and REPEATABLE READ, needs no subtransaction,
// and holds no lock table entry beyond the call.
#include "idempotency.hpp"

#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "routing.hpp"

namespace order_proc {

namespace {

constexpr int longest_key = 255;

pg::Statement insert_key{
    "INSERT INTO order_store.idempotency_keys (customer_id, key, order_id, request_hash) VALUES "
    "($1, $2, $3, $4)",
    INT8OID, TEXTOID, INT8OID, BYTEAOID};
pg::Statement delete_old_keys{
    "DELETE FROM order_store.idempotency_keys AS k WHERE k.created_at OPERATOR(pg_catalog.<) "
    "(pg_catalog.now() OPERATOR(pg_catalog.-) $1)",
    INTERVALOID};

/// A unique btree on (customer_id, key), such as the primary key.
Oid key_index(Relation keys) {
  const AttrNumber customer_column = get_attnum(RelationGetRelid(keys), "customer_id");
  const AttrNumber key_column = get_attnum(RelationGetRelid(keys), "key");
  const Oid index =
      keys->rd_rel->relkind == RELKIND_RELATION ? pg::primary_key_index(keys) : InvalidOid;
  bool fits = false;
  if (OidIsValid(index)) {
    const Relation relation = index_open(index, AccessShareLock);
    const Form_pg_index form = relation->rd_index;
    fits = form->indnkeyatts == 2 && form->indkey.values[0] == customer_column &&
           form->indkey.values[1] == key_column && form->indisvalid && form->indimmediate &&
           relation->rd_indcollation[1] == C_COLLATION_OID;
    index_close(relation, AccessShareLock);
  }
  if (!fits)
    ereport(
        ERROR, errcode(pg::store_mismatch),
        errmsg("order_store.idempotency_keys does not have its primary key (customer_id, key)"),
        errhint("ALTER TABLE order_store.idempotency_keys ADD PRIMARY KEY (customer_id, key);"));
  return index;
}

bool same_bytes(Datum a, Datum b) {
  const auto* left = DatumGetByteaPP(a);
  const auto* right = DatumGetByteaPP(b);
  return pg::view(left) == pg::view(right);
}

/// Whether the row in `slot` was written for the same request.
bool same_request(Relation keys, TupleTableSlot* slot, Datum request_hash) {
  bool null;
  const Datum hash = slot_getattr(slot, get_attnum(RelationGetRelid(keys), "request_hash"), &null);
  return !null && same_bytes(hash, request_hash);
}

pg::Statement visible_order{
    "SELECT 1 FROM order_store.orders AS o WHERE o.id OPERATOR(pg_catalog.=) $1", INT8OID};

/// Whether row security lets the caller see the order, which a snapshot of before may lack.
bool may_see(const Store& store, int64 order_id) {
  if (check_enable_rls(store.table(Table::orders), InvalidOid, false) != RLS_ENABLED) return true;
  CommandCounterIncrement();  // this statement's own
  PushActiveSnapshot(GetLatestSnapshot());
  const bool found = pg::with_spi(
      [&] { return visible_order.run(0, {pg::Value(Int64GetDatum(order_id))}, true) > 0; });
  PopActiveSnapshot();
  return found;
}

}  // namespace

const char* key_reused_message(const IdempotencyKey& key) {
  return psprintf("idempotency key \"%s\" was used for another request", pg::shown(key.key.view()));
}

void require_visible(const Store& store, const IdempotencyKey& key, const KeyLook& look) {
  if (!look.found || TransactionIdIsValid(look.busy)) return;
  const Oid orders = store.table(Table::orders);
  const std::array read{get_attnum(orders, "id")};
  // Who may not read orders at all is told the ids of those that he makes.
  if (!pg::caller_may({orders, ACL_SELECT, read, {}}) || may_see(store, look.order_id)) return;
  ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
          errmsg("row level security hides the order of customer " INT64_FORMAT
                 " under idempotency key \"%s\"",
                 key.customer_id, pg::shown(key.key.view())),
          errhint("Make orders of customers that the policies of order_store.orders let you see."));
}

void require_same_request(const IdempotencyKey& key, const KeyLook& look) {
  if (!look.found || TransactionIdIsValid(look.busy) || look.same_request) return;
  ereport(ERROR, errcode(pg::idempotency_key_reused), errmsg("%s", key_reused_message(key)),
          errdetail("Customer " INT64_FORMAT " made order " INT64_FORMAT " under it.",
                    key.customer_id, look.order_id),
          errhint("Use a new key for a new request, and the same arguments when you try again."));
}

Datum sha256_of(const void* bytes, std::size_t size) {
  auto* const value = static_cast<bytea*>(palloc(VARHDRSZ + size));
  SET_VARSIZE(value, VARHDRSZ + size);
  std::copy_n(static_cast<const char*>(bytes), size, VARDATA(value));
  return DirectFunctionCall1(sha256_bytea, PointerGetDatum(value));
}

KeyLook look_for(const Store& store, const IdempotencyKey& key) {
  const Relation keys = open_table(store.table(Table::idempotency_keys), RowExclusiveLock);
  const Relation index = index_open(key_index(keys), AccessShareLock);
  SnapshotData dirty;
  InitDirtySnapshot(dirty);
  std::array<ScanKeyData, 2> conditions;
  ScanKeyInit(&conditions[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key.customer_id));
  ScanKeyEntryInitialize(&conditions[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
                         F_TEXTEQ, key.key.datum());
  const IndexScanDesc scan = pg::index_begin_scan(keys, index, &dirty, 2);
  index_rescan(scan, conditions.data(), 2, nullptr, 0);
  TupleTableSlot* const slot = table_slot_create(keys, nullptr);
  KeyLook look;
  if (index_getnext_slot(scan, ForwardScanDirection, slot)) {
    bool null;
    look = {
        true, TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax,
        DatumGetInt64(slot_getattr(slot, get_attnum(RelationGetRelid(keys), "order_id"), &null)),
        false};
    look.same_request =
        !TransactionIdIsValid(look.busy) && same_request(keys, slot, key.request_hash);
  }
  ExecDropSingleTupleTableSlot(slot);
  index_endscan(scan);
  index_close(index, AccessShareLock);
  table_close(keys, NoLock);
  return look;
}

void wait_for(TransactionId busy) {
  CHECK_FOR_INTERRUPTS();
  XactLockTableWait(busy, nullptr, nullptr, XLTW_None);
}

void write_key(const Store& store, const IdempotencyKey& key, int64 order_id) {
  pg::with_spi([&] {
    pg::as_user(table_owner(store.table(Table::idempotency_keys)), [&] {
      insert_key.run(0, {pg::Value(Int64GetDatum(key.customer_id)), pg::Value(key.key.datum()),
                         pg::Value(Int64GetDatum(order_id)), pg::Value(key.request_hash)});
    });
  });
}

uint64 lock_value(const IdempotencyKey& key) {
  const std::string_view bytes = key.key.view();
  return hash_bytes_extended(reinterpret_cast<const unsigned char*>(bytes.data()),
                             static_cast<int>(bytes.size()), static_cast<uint64>(key.customer_id));
}

void check_key(pg::Text key) {
  if (key.view().size() > longest_key)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("idempotency_key is longer than %d bytes", longest_key),
            errdetail("It has %zu bytes: \"%s\".", key.view().size(), pg::shown(key.view())),
            errhint("Use a UUID, or a hash of the longer key."));
}

namespace {

/// The order under the key; waits for a transaction that has yet to decide about it. The lock is
/// the one of create_once: who is about to write the key holds it.
std::optional<int64> find_order(const Store& store, const IdempotencyKey& key) {
  for (;;) {
    const KeyLook look = pg::with_lock(pg::LockKind::idempotency_key, lock_value(key),
                                       [&] { return look_for(store, key); });
    if (!look.found) return std::nullopt;
    if (!TransactionIdIsValid(look.busy)) return look.order_id;
    wait_for(look.busy);
  }
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_outcome);
Datum order_proc_outcome(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  IdempotencyKey key{};
  key.customer_id = args.get_int64(0, "customer_id");
  key.key = args.get_text(1, "idempotency_key");
  key.request_hash = sha256_of(nullptr, 0);
  check_key(key.key);
  if (const Cluster* const cluster = routed(reads_orders))
    return call_on_shard(fcinfo, route_of_customer(*cluster, key.customer_id),
                         remote::Use::transaction);
  const Store& store = open_store();
  const Oid orders = store.table(Table::orders);
  if (pg_class_aclcheck(orders, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "orders");
  const auto order_id = find_order(store, key);
  if (!order_id || !may_see(store, *order_id)) PG_RETURN_NULL();
  PG_RETURN_INT64(*order_id);
}

PG_FUNCTION_INFO_V1(order_proc_purge_idempotency_keys);
Datum order_proc_purge_idempotency_keys(PG_FUNCTION_ARGS) {
  if (const Cluster* const cluster = routed(deletes_keys))
    return sum_over_shards(fcinfo, *cluster, remote::Use::write);
  const Datum older_than = pg::Args(fcinfo).datum(0, "older_than");
  const Datum zero = IntervalPGetDatum(static_cast<Interval*>(palloc0(sizeof(Interval))));
  if (DatumGetBool(DirectFunctionCall2(interval_lt, older_than, zero)))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("older_than must not be negative: %s",
                   DatumGetCString(DirectFunctionCall1(interval_out, older_than))),
            errhint("Keys older than a day: interval '1 day'."));
  const Store store = open_store();
  const Oid keys = store.table(Table::idempotency_keys);
  if (pg_class_aclcheck(keys, GetUserId(), ACL_DELETE) != ACLCHECK_OK)
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "idempotency_keys");
  // Before the first timestamp that there is.
  Interval beyond{};
  beyond.month = 6000 * MONTHS_PER_YEAR;
  if (DatumGetBool(DirectFunctionCall2(interval_gt, older_than, IntervalPGetDatum(&beyond))))
    PG_RETURN_INT64(0);
  const uint64 purged = pg::with_spi([&] {
    return pg::as_user(table_owner(keys),
                       [&] { return delete_old_keys.run(0, {pg::Value(older_than)}); });
  });
  PG_RETURN_INT64(static_cast<int64>(purged));
}

}  // extern "C"

}  // namespace order_proc
