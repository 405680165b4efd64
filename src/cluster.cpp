#include "cluster.hpp"

#include "pg/args.hpp"
#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/foreign.hpp"
#include "pg/locks.hpp"
#include "pg/random.hpp"
#include "pg/spi.hpp"
#include "pg/trigger.hpp"
#include "slots.hpp"

extern "C" {
#include "access/xlog.h"
}

namespace order_proc {

namespace {

constinit Cluster cluster{};
uint64 read_at = 0;  ///< the store's generation
bool fresh = false;
uint64 server_changes = 0;  ///< of any foreign server, whose oids the map keeps
uint64 servers_read_at = 0;

/// Calls `use` with the values of each row of a small table of the library's: a plain scan that
/// sees what is committed by now, needs no rights and runs no code of others. A step down that was
/// waited for has taken the table, or columns of it: then there are no rows, or NULLs.
template <std::size_t Columns, typename F>
void scan(const Store& store, Table which, const std::array<const char*, Columns>& names, F&& use) {
  const Relation table = open_table_of_layout(store, which, AccessShareLock);
  if (table == nullptr) return;
  std::array<AttrNumber, Columns> numbers;
  for (std::size_t i = 0; i < Columns; ++i)
    numbers[i] = static_cast<AttrNumber>(SPI_fnumber(RelationGetDescr(table), names[i]));
  const Snapshot snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(table)));
  const TableScanDesc scan = table_beginscan(table, snapshot, 0, nullptr);
  TupleTableSlot* const row = table_slot_create(table, nullptr);
  while (table_scan_getnextslot(scan, ForwardScanDirection, row)) {
    std::array<pg::Value, Columns> values;
    for (std::size_t i = 0; i < Columns; ++i)
      if (numbers[i] > 0) values[i].datum = slot_getattr(row, numbers[i], &values[i].null);
    use(values);
  }
  ExecDropSingleTupleTableSlot(row);
  table_endscan(scan);
  UnregisterSnapshot(snapshot);
  table_close(table, AccessShareLock);
}

void read_identity(const Store& store) {
  scan<3>(store, Table::cluster, {"coordinator_id", "shard_id", "owned_slots"},
          [](const std::array<pg::Value, 3>& row) {
            cluster.coordinator_id = row[0].null ? 0 : DatumGetInt64(row[0].datum);
            cluster.role = row[1].null ? Role::coordinator : Role::shard;
            cluster.shard_id = row[1].null ? no_shard : DatumGetInt32(row[1].datum);
            if (row[2].null) return;
            const std::string_view bits = pg::view(DatumGetTextPP(row[2].datum));
            std::copy_n(bits.begin(), std::min(bits.size(), cluster.owned_slots.size()),
                        cluster.owned_slots.begin());
          });
}

/// From layout 1.8 on.
void read_fence(const Store& store) {
  scan<6>(store, Table::cluster,
          {"system_identifier", "database_oid", "secret", "timeline", "instance", "former_id"},
          [](const std::array<pg::Value, 6>& row) {
            cluster.copied = !row[0].null && !row[1].null &&
                             (DatumGetUInt64(row[0].datum) != GetSystemIdentifier() ||
                              DatumGetObjectId(row[1].datum) != MyDatabaseId);
            if (!row[2].null) {
              const std::string_view bytes = pg::view(DatumGetTextPP(row[2].datum));
              std::copy_n(bytes.begin(), std::min(bytes.size(), cluster.secret.size()),
                          cluster.secret.begin());
            }
            if (!row[3].null && !row[4].null)
              cluster.coordinator_here = {static_cast<uint32>(DatumGetInt32(row[3].datum)),
                                          DatumGetInt64(row[4].datum)};
            cluster.former_id = row[5].null ? 0 : DatumGetInt64(row[5].datum);
          });
}

void read_shards() {
  const Store& store = open_also({Table::shards});
  const bool fenced = store.layout.has_receipts();
  scan<2>(store, Table::shards, {"id", "server"}, [fenced](const std::array<pg::Value, 2>& row) {
    if (row[0].null || row[1].null) return;
    const int id = DatumGetInt32(row[0].datum);
    if (id < 0 || id >= static_cast<int>(most_shards)) return;
    const char* const name = NameStr(*DatumGetName(row[1].datum));
    const Oid server = get_foreign_server_oid(name, true);
    cluster.shards[static_cast<std::size_t>(id)] = {id, server, cluster.coordinator_id, fenced};
    cluster.shard_count = std::max(cluster.shard_count, static_cast<std::size_t>(id) + 1);
  });
}

void read_slot_map() {
  const Store& store = open_also({Table::slot_map});
  cluster.shard_of_slot.fill(no_shard);
  scan<2>(store, Table::slot_map, {"slot", "shard_id"}, [](const std::array<pg::Value, 2>& row) {
    if (row[0].null || row[1].null) return;
    const int slot = DatumGetInt32(row[0].datum);
    if (slot >= 0 && slot < core::slot_count)
      cluster.shard_of_slot[static_cast<std::size_t>(slot)] =
          static_cast<int16>(DatumGetInt32(row[1].datum));
  });
}

void read_cluster(const Store& store, bool slots) {
  cluster.role = Role::alone;
  cluster.coordinator_id = 0;
  cluster.shard_id = no_shard;
  cluster.shard_count = 0;
  cluster.owned_slots.fill(0);
  cluster.slots_known = true;
  cluster.copied = false;
  cluster.former_id = 0;
  cluster.secret.fill(0);
  cluster.coordinator_here = {};
  if (!store.layout.has_shards()) return;
  read_identity(store);
  if (store.layout.has_receipts()) read_fence(store);
  if (cluster.role != Role::coordinator) return;
  read_shards();
  cluster.slots_known = slots;
  if (slots) read_slot_map();
  // A coordinator without shards yet is alone.
  if (cluster.shard_count == 0) cluster.role = Role::alone;
}

// Locks of slots. Above so many a transaction takes the one lock for all: the lock table has room
// for a few per session.
constexpr int most_slot_locks = 64;
constexpr uint64 all_slots = core::slot_count;

struct Held {
  LocalTransactionId transaction;
  int count;
  bool all;
  std::array<bool, core::slot_count> slots;
};
Held held{};

void lock_shared(uint64 key) {
  const LOCKTAG tag = pg::lock_tag(pg::LockKind::slot, key);
  (void)LockAcquire(&tag, ShareLock, false, false);
  // The map may have been changed while we waited.
  AcceptInvalidationMessages();
}

void lock_slot(int slot) {
  if (held.transaction != pg::local_transaction()) {
    held = {};
    held.transaction = pg::local_transaction();
  }
  if (held.all || held.slots[static_cast<std::size_t>(slot)]) return;
  if (held.count == most_slot_locks) {
    lock_shared(all_slots);
    held.all = true;
    return;
  }
  lock_shared(static_cast<uint64>(slot));
  held.slots[static_cast<std::size_t>(slot)] = true;
  ++held.count;
}

[[noreturn]] void not_here(const Cluster& cluster_here, int slot) {
  if (cluster_here.role == Role::shard)
    ereport(ERROR, errcode(pg::slot_not_here),
            errmsg("slot %d is not on shard %d", slot, cluster_here.shard_id),
            errdetail("Another shard of the cluster has it."),
            errhint("Run the call on the coordinator, which knows the way."));
  ereport(ERROR, errcode(pg::slot_not_here), errmsg("slot %d is not on the coordinator", slot),
          errdetail("The tables of a coordinator are empty: its shards have the rows."),
          errhint("Use the functions of order_proc, or order_proc.fan_out_exec for other SQL."));
}

void end_of_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
  // Which of the locks went with it is not known.
  if (event == SUBXACT_EVENT_ABORT_SUB) held = {};
}

void server_altered(Datum, int, uint32) {
  ++server_changes;
}

}  // namespace

namespace {

const Cluster& read(const Store& store, bool slots) {
  while (!fresh || read_at != store_generation() || servers_read_at != server_changes ||
         (slots && !cluster.slots_known)) {
    const uint64 generation = store_generation();
    const uint64 servers = server_changes;
    // What somebody has in hand does not lose them.
    read_cluster(store, slots || cluster.slots_known);
    read_at = generation;
    servers_read_at = servers;
    fresh = true;
    if (generation == store_generation() && servers == server_changes) break;
  }
  return cluster;
}

}  // namespace

const Cluster& cluster_of(const Store& store) {
  return read(store, true);
}

const Cluster& cluster_without_slots(const Store& store) {
  return read(store, false);
}

void require_original(const Cluster& of) {
  if (!of.copied) return;
  ereport(ERROR, errcode(pg::coordinator_fenced),
          errmsg("this database is a copy of the coordinator of cluster " INT64_FORMAT,
                 of.coordinator_id),
          errdetail("Two coordinators with one identity would undo each other's transactions."),
          errhint("SELECT order_proc.adopt_cluster(); makes it the coordinator and shuts the "
                  "original out."));
}

int64 new_coordinator_id() {
  return static_cast<int64>(pg::random_bits() & PG_INT64_MAX);
}

void forget_cluster() {
  fresh = false;
}

const remote::Target& shard_of_slot(const Cluster& of, int slot) {
  const int shard = of.shard_of_slot[static_cast<std::size_t>(slot)];
  if (shard < 0 || static_cast<std::size_t>(shard) >= of.shard_count)
    ereport(ERROR, errcode(pg::no_shard_for_slot), errmsg("no shard has slot %d", slot),
            errhint("SELECT order_proc.add_shard('server');"));
  const remote::Target& target = of.shards[static_cast<std::size_t>(shard)];
  if (!OidIsValid(target.server)) remote::raise_no_server(shard);
  return target;
}

NameData server_name_of(int shard_id) {
  static NameData name;
  namestrcpy(&name, "?");
  scan<2>(open_also({Table::shards}), Table::shards, {"id", "server"},
          [shard_id](const std::array<pg::Value, 2>& row) {
            if (!row[0].null && !row[1].null && DatumGetInt32(row[0].datum) == shard_id)
              name = *DatumGetName(row[1].datum);
          });
  return name;
}

void require_slot(const Store& store, int slot) {
  if (cluster_of(store).role == Role::alone) return;
  lock_slot(slot);
  const Cluster& here = cluster_of(store);
  if (here.role != Role::alone && !here.owns(slot)) not_here(here, slot);
}

void watch_cluster() {
  RegisterSubXactCallback(end_of_subtransaction, nullptr);
  CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_altered, 0);
}

namespace {

/// What the slot of a row hangs on.
enum class SlotKey { customer, order, item };

SlotKey slot_key(const Store& store, Relation table) {
  const auto is = [&](Table which) {
    const Oid oid = store.table(which);
    return RelationGetRelid(table) == oid ||
           (table->rd_rel->relispartition &&
            list_member_oid(get_partition_ancestors(RelationGetRelid(table)), oid));
  };
  if (is(Table::customers)) return SlotKey::customer;
  if (is(Table::orders)) return SlotKey::order;
  if (is(Table::order_items)) return SlotKey::item;
  ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
          errmsg("check_slot() is a trigger function for the tables of the store, not for \"%s\"",
                 RelationGetRelationName(table)));
}

void check_row(const Store& store, Relation table, SlotKey key, HeapTuple row) {
  const TupleDesc descriptor = RelationGetDescr(table);
  const int column = SPI_fnumber(descriptor, key == SlotKey::item ? "order_id" : "id");
  if (column <= 0 || getBaseType(SPI_gettypeid(descriptor, column)) != INT8OID)
    ereport(ERROR, errcode(pg::store_mismatch),
            errmsg("table \"%s\" does not have its key column of type bigint",
                   RelationGetRelationName(table)),
            errhint("Bring the column back under its name and type."));
  bool null;
  const int64 id = DatumGetInt64(heap_getattr(row, column, descriptor, &null));
  // A NULL in a key is the table's own constraint to refuse.
  if (null) return;
  require_slot(store,
               key == SlotKey::customer ? slot_of_customer(store, id) : core::slot_of_order(id));
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_check_slot);
Datum order_proc_check_slot(PG_FUNCTION_ARGS) {
  TriggerData* const trigger = pg::trigger_data(fcinfo, "check_slot");
  pg::require_trigger(
      TRIGGER_FIRED_BEFORE(trigger->tg_event) && TRIGGER_FIRED_FOR_ROW(trigger->tg_event),
      "check_slot", "BEFORE a change FOR EACH ROW");
  const Store& store = open_store_at_any_layout();
  const SlotKey key = slot_key(store, trigger->tg_relation);
  check_row(store, trigger->tg_relation, key, trigger->tg_trigtuple);
  if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) return PointerGetDatum(trigger->tg_trigtuple);
  check_row(store, trigger->tg_relation, key, trigger->tg_newtuple);
  return PointerGetDatum(trigger->tg_newtuple);
}

PG_FUNCTION_INFO_V1(order_proc_cluster_changed);
Datum order_proc_cluster_changed(PG_FUNCTION_ARGS) {
  const TriggerData* const trigger = pg::trigger_data(fcinfo, "cluster_changed");
  pg::require_trigger(
      TRIGGER_FIRED_AFTER(trigger->tg_event) && !TRIGGER_FIRED_FOR_ROW(trigger->tg_event),
      "cluster_changed", "AFTER a change FOR EACH STATEMENT");
  CacheInvalidateRelcache(trigger->tg_relation);
  return PointerGetDatum(nullptr);
}

}  // extern "C"

}  // namespace order_proc
