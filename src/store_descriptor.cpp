// The descriptor of the store: filled by name look-ups and one plain scan, checked against the
// columns and triggers that functions use. OP001 and OP002 are raised here and nowhere else.
#include "store.hpp"

#include "pg/args.hpp"
#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"

namespace order_proc {

namespace {

constexpr const char* schema_name = "order_store";

/// A column that functions use, at layouts [since, until).
struct Column {
  Table table;
  const char* name;
  Oid type;
  std::size_t since = 0;
  std::size_t until = core::layouts.size();
};

/// In the order of enum Table; a table or sequence is there from layout `since` on.
struct Named {
  const char* name;
  std::size_t since = 0;
};
constexpr std::array<Named, table_count> table_names{{{"store"},
                                                      {"migrations"},
                                                      {"customers"},
                                                      {"orders"},
                                                      {"order_items"},
                                                      {"order_statuses"},
                                                      {"status_transitions"},
                                                      {"order_status_history"},
                                                      {"idempotency_keys"},
                                                      {"import_rejects", 6},
                                                      {"cluster", 7},
                                                      {"shards", 7},
                                                      {"slot_map", 7},
                                                      {"sagas", 8}}};
constexpr std::array<Named, 7> sequence_names{{{"migrations_id_seq"},
                                               {"customers_id_seq"},
                                               {"orders_id_seq"},
                                               {"order_items_id_seq"},
                                               {"order_status_history_id_seq"},
                                               {"import_id_seq", 6},
                                               {"sagas_id_seq", 8}}};

constexpr std::array columns{
    Column{Table::store, "layout", TEXTOID},
    Column{Table::store, "placement", TEXTOID},
    Column{Table::migrations, "id", INT8OID},
    Column{Table::migrations, "version", TEXTOID},
    Column{Table::migrations, "direction", TEXTOID},
    Column{Table::migrations, "applied_at", TIMESTAMPTZOID},
    Column{Table::migrations, "applied_by", TEXTOID},
    Column{Table::migrations, "duration", INTERVALOID},
    Column{Table::customers, "id", INT8OID},
    Column{Table::customers, "name", TEXTOID, 0, 4},
    Column{Table::customers, "first_name", TEXTOID, 3},
    Column{Table::customers, "last_name", TEXTOID, 3},
    Column{Table::customers, "email", TEXTOID},
    Column{Table::orders, "id", INT8OID},
    Column{Table::orders, "customer_id", INT8OID},
    Column{Table::orders, "status", TEXTOID},
    Column{Table::orders, "total_amount", NUMERICOID},
    Column{Table::orders, "notes", TEXTOID, 2},
    Column{Table::orders, "customer_name", TEXTOID},
    Column{Table::orders, "customer_email", TEXTOID},
    Column{Table::orders, "created_at", TIMESTAMPTZOID},
    Column{Table::orders, "updated_at", TIMESTAMPTZOID},
    Column{Table::order_items, "order_id", INT8OID},
    Column{Table::order_items, "id", INT8OID},
    Column{Table::order_items, "product_id", INT8OID},
    Column{Table::order_items, "quantity", INT4OID},
    Column{Table::order_items, "price", NUMERICOID},
    Column{Table::order_statuses, "status", TEXTOID},
    Column{Table::order_statuses, "is_initial", BOOLOID},
    Column{Table::order_statuses, "is_terminal", BOOLOID},
    Column{Table::status_transitions, "from_status", TEXTOID},
    Column{Table::status_transitions, "to_status", TEXTOID},
    Column{Table::order_status_history, "order_id", INT8OID},
    Column{Table::order_status_history, "id", INT8OID},
    Column{Table::order_status_history, "from_status", TEXTOID},
    Column{Table::order_status_history, "to_status", TEXTOID},
    Column{Table::order_status_history, "changed_at", TIMESTAMPTZOID},
    Column{Table::order_status_history, "changed_by", TEXTOID},
    Column{Table::idempotency_keys, "customer_id", INT8OID},
    Column{Table::idempotency_keys, "key", TEXTOID},
    Column{Table::idempotency_keys, "order_id", INT8OID},
    Column{Table::idempotency_keys, "request_hash", BYTEAOID},
    Column{Table::idempotency_keys, "created_at", TIMESTAMPTZOID},
    Column{Table::import_rejects, "import_id", INT8OID, 6},
    Column{Table::import_rejects, "line_number", INT8OID, 6},
    Column{Table::import_rejects, "raw_line", TEXTOID, 6},
    Column{Table::import_rejects, "sqlstate", TEXTOID, 6},
    Column{Table::import_rejects, "message", TEXTOID, 6},
    Column{Table::import_rejects, "imported_by", TEXTOID, 6},
    Column{Table::cluster, "coordinator_id", INT8OID, 7},
    Column{Table::cluster, "shard_id", INT4OID, 7},
    Column{Table::cluster, "owned_slots", BYTEAOID, 7},
    Column{Table::cluster, "system_identifier", INT8OID, 8},
    Column{Table::cluster, "database_oid", OIDOID, 8},
    Column{Table::cluster, "secret", BYTEAOID, 8},
    Column{Table::cluster, "timeline", INT4OID, 8},
    Column{Table::cluster, "instance", INT8OID, 8},
    Column{Table::cluster, "former_id", INT8OID, 8},
    Column{Table::shards, "id", INT4OID, 7},
    Column{Table::shards, "server", NAMEOID, 7},
    Column{Table::slot_map, "slot", INT4OID, 7},
    Column{Table::slot_map, "shard_id", INT4OID, 7},
    Column{Table::sagas, "id", INT8OID, 8},
    Column{Table::sagas, "order_id", INT8OID, 8},
    Column{Table::sagas, "step", TEXTOID, 8},
    Column{Table::sagas, "compensation", TEXTOID, 8},
    Column{Table::sagas, "recorded_by", TEXTOID, 8},
    Column{Table::sagas, "attempts", INT4OID, 8},
    Column{Table::sagas, "attempted_at", TIMESTAMPTZOID, 8},
    Column{Table::sagas, "last_error", TEXTOID, 8},
};

struct Descriptor {
  Store store;
  bool fresh = false;     ///< names and layout are true
  bool checked = false;   ///< the columns fit, too, and the layout is the extension's
  uint64 generation = 0;  ///< invalidations so far
  Oid user = InvalidOid;  ///< who may use the schema, as far as was asked
};
Descriptor descriptor;

/// A server that discards its caches all the time (debug_discard_caches) invalidates forever.
constexpr int most_attempts = 10;

constexpr const char* migrate_hint = "SELECT order_proc.migrate_store();";

[[noreturn]] void mismatch(const char* message, const char* hint) {
  ereport(ERROR, errcode(pg::store_mismatch), errmsg("%s", message), errhint("%s", hint));
}

[[noreturn]] void no_store() {
  ereport(ERROR, errcode(pg::no_store), errmsg("there is no store in this database"),
          errhint("SELECT order_proc.create_store();"));
}

bool is_table(Oid relation) {
  const char kind = OidIsValid(relation) ? get_rel_relkind(relation) : '\0';
  return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

[[noreturn]] void not_a_table(const char* name) {
  mismatch(psprintf("order_store.%s is not a table of the store", name),
           "Bring the table back under its name, or restore it from a backup.");
}

/// A dropped and remade store must be found under its new oids, so names are looked up anew each
/// time.
void find_tables(Store& store) {
  store.schema = get_namespace_oid(schema_name, true);
  if (!OidIsValid(store.schema)) no_store();
  bool any = false;
  for (std::size_t i = 0; i < table_count; ++i) {
    store.tables[i] = get_relname_relid(table_names[i].name, store.schema);
    any |= OidIsValid(store.tables[i]);
  }
  if (!any) no_store();
  if (!is_table(store.table(Table::store))) not_a_table("store");
  store.orders_sequence = get_relname_relid("orders_id_seq", store.schema);
  store.customers_sequence = get_relname_relid("customers_id_seq", store.schema);
  store.owner = table_owner(store.table(Table::store));
}

/// The one row of order_store.store.
struct StoreRow {
  core::Layout layout;
  core::Placement placement;
};

/// Reads it by a plain scan: no SQL, no rights, no user code.
StoreRow read_store_row(Oid store_table, Snapshot snapshot) {
  const Relation table = table_open(store_table, AccessShareLock);
  const AttrNumber layout_column = get_attnum(RelationGetRelid(table), "layout");
  const AttrNumber placement_column = get_attnum(RelationGetRelid(table), "placement");
  if (table->rd_rel->relkind != RELKIND_RELATION || layout_column == InvalidAttrNumber ||
      placement_column == InvalidAttrNumber ||
      get_atttype(RelationGetRelid(table), layout_column) != TEXTOID ||
      get_atttype(RelationGetRelid(table), placement_column) != TEXTOID)
    mismatch("order_store.store does not have the columns layout and placement",
             "Bring the table back as it was, or restore it from a backup.");
  const TableScanDesc scan = table_beginscan(table, snapshot, 0, nullptr);
  TupleTableSlot* const row = table_slot_create(table, nullptr);
  if (!table_scan_getnextslot(scan, ForwardScanDirection, row))
    mismatch("order_store.store is empty",
             "Restore the row from a backup: layout and placement of the store.");
  bool layout_null;
  bool placement_null;
  const Datum layout_value = slot_getattr(row, layout_column, &layout_null);
  const Datum placement_value = slot_getattr(row, placement_column, &placement_null);
  if (layout_null || placement_null)
    mismatch("order_store.store holds a NULL",
             "Restore the row from a backup: layout and placement of the store.");
  const std::string_view layout = pg::view(DatumGetTextPP(layout_value));
  const auto known = core::layout_index(layout);
  if (!known)
    mismatch(psprintf("this library does not know layout \"%s\" of the store", pg::shown(layout)),
             "Install a newer package of order_proc.");
  const std::string_view placement = pg::view(DatumGetTextPP(placement_value));
  const StoreRow result{{*known},
                        placement == core::name_of(core::Placement::modulo)
                            ? core::Placement::modulo
                            : core::Placement::hash};
  ExecDropSingleTupleTableSlot(row);
  table_endscan(scan);
  table_close(table, AccessShareLock);
  return result;
}

/// A snapshot that sees everything committed so far, taken anew, for as long as the body runs.
template <typename F>
auto with_fresh_snapshot(Oid table, F&& body) {
  static_assert(pg::Jumpable<std::invoke_result_t<F, Snapshot>>);
  const Snapshot snapshot = RegisterSnapshot(GetCatalogSnapshot(table));
  const auto result = body(snapshot);
  UnregisterSnapshot(snapshot);
  return result;
}

void read_layout(Store& store) {
  const Oid table = store.table(Table::store);
  const StoreRow row = with_fresh_snapshot(
      table, [&](Snapshot snapshot) { return read_store_row(table, snapshot); });
  store.layout = row.layout;
  store.placement = row.placement;
}

void check_tables(const Store& store) {
  for (std::size_t i = 0; i < table_count; ++i)
    if (store.layout.index >= table_names[i].since && !is_table(store.tables[i]))
      not_a_table(table_names[i].name);
}

void check_columns(const Store& store) {
  for (const Column& column : columns) {
    if (store.layout.index < column.since || store.layout.index >= column.until) continue;
    const Oid table = store.table(column.table);
    const AttrNumber number = get_attnum(table, column.name);
    const char* const table_name = table_names[static_cast<std::size_t>(column.table)].name;
    if (number == InvalidAttrNumber)
      mismatch(psprintf("column \"%s\" of order_store.%s is missing", column.name, table_name),
               psprintf("ALTER TABLE order_store.%s ADD COLUMN %s %s;", table_name, column.name,
                        format_type_be(column.type)));
    const Oid type = get_atttype(table, number);
    if (getBaseType(type) != column.type)
      mismatch(psprintf("column \"%s\" of order_store.%s has type %s, not %s", column.name,
                        table_name, format_type_be(type), format_type_be(column.type)),
               psprintf("ALTER TABLE order_store.%s ALTER COLUMN %s TYPE %s;", table_name,
                        column.name, format_type_be(column.type)));
  }
  for (const auto& [name, since] : sequence_names) {
    if (store.layout.index < since) continue;
    const Oid sequence = get_relname_relid(name, store.schema);
    if (!OidIsValid(sequence) || get_rel_relkind(sequence) != RELKIND_SEQUENCE)
      mismatch(psprintf("sequence order_store.%s is missing", name),
               "Bring the sequence back under its name.");
  }
}

int32 typmod_of(Oid table, const char* column) {
  Oid type;
  int32 typmod;
  Oid collation;
  get_atttypetypmodcoll(table, get_attnum(table, column), &type, &typmod, &collation);
  (void)getBaseTypeAndTypmod(type, &typmod);
  return typmod;
}

/// DROP EXTENSION ... CASCADE takes the triggers and leaves the rows. The first that is missing:
/// its table and function.
std::optional<std::pair<const char*, const char*>> missing_trigger(const Store& store) {
  struct Expected {
    Table table;
    const char* function;
    std::size_t since;
    std::size_t until;
  };
  constexpr std::array expected{
      Expected{Table::orders, "record_status_change", 0, core::layouts.size()},
      Expected{Table::order_statuses, "statuses_changed", 0, core::layouts.size()},
      Expected{Table::customers, "sync_customer_name", 3, 4},
      Expected{Table::cluster, "cluster_changed", 7, core::layouts.size()},
      Expected{Table::shards, "cluster_changed", 7, core::layouts.size()},
      Expected{Table::slot_map, "cluster_changed", 7, core::layouts.size()},
  };
  for (const Expected& trigger : expected) {
    if (store.layout.index < trigger.since || store.layout.index >= trigger.until) continue;
    if (!has_trigger(store.table(trigger.table), trigger.function))
      return std::pair{table_names[static_cast<std::size_t>(trigger.table)].name, trigger.function};
  }
  return std::nullopt;
}

void check_triggers(const Store& store) {
  if (const auto missing = missing_trigger(store))
    mismatch(psprintf("the trigger on order_store.%s that calls order_proc.%s is missing",
                      missing->first, missing->second),
             migrate_hint);
}

/// nullptr: with a catalog snapshot.
std::size_t extension_layout(Snapshot snapshot) {
  const Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
              CStringGetDatum("order_proc"));
  const SysScanDesc scan =
      systable_beginscan(extensions, ExtensionNameIndexId, true, snapshot, 1, &key);
  const HeapTuple row = systable_getnext(scan);
  std::optional<std::size_t> layout;
  const char* version = "none";
  if (HeapTupleIsValid(row)) {
    bool null;
    const Datum value =
        heap_getattr(row, Anum_pg_extension_extversion, RelationGetDescr(extensions), &null);
    version = null ? "none" : TextDatumGetCString(value);
    layout = core::layout_index(version);
  }
  systable_endscan(scan);
  table_close(extensions, AccessShareLock);
  if (!layout)
    mismatch(
        psprintf("this library does not know version \"%s\" of the extension", pg::shown(version)),
        "Install the package of order_proc that has this version.");
  return *layout;
}

void mark_stale() {
  descriptor.fresh = descriptor.checked = false;
  descriptor.user = InvalidOid;
  ++descriptor.generation;
  pg::forget_plans();
}

/// Layout of the store and version of the extension change in one commit, whose announcement comes
/// a moment later: only one snapshot shows both as they belong together. False when the descriptor
/// is of before that commit.
bool same_layout_as_extension(const Store& store) {
  struct Versions {
    std::size_t layout;
    std::size_t installed;
  };
  const Oid table = store.table(Table::store);
  const auto [layout, installed] = with_fresh_snapshot(table, [&](Snapshot snapshot) {
    return Versions{read_store_row(table, snapshot).layout.index, extension_layout(snapshot)};
  });
  if (layout < installed)
    ereport(ERROR, errcode(pg::store_mismatch),
            errmsg("the store has layout %s, the extension is at version %s",
                   core::layouts[layout].data(), core::layouts[installed].data()),
            errhint("%s", migrate_hint));
  if (layout > installed)
    ereport(ERROR, errcode(pg::store_mismatch),
            errmsg("the store has layout %s, the extension is at version %s",
                   core::layouts[layout].data(), core::layouts[installed].data()),
            errhint("ALTER EXTENSION order_proc UPDATE TO '%s';", core::layouts[layout].data()));
  return layout == store.layout.index;
}

void check(const Store& store) {
  if (same_layout_as_extension(store))
    check_triggers(store);
  else
    mark_stale();
}

void relation_changed(Datum, Oid relation) {
  const Store& store = descriptor.store;
  if (!OidIsValid(relation) || relation == store.orders_sequence ||
      relation == store.customers_sequence ||
      std::find(store.tables.begin(), store.tables.end(), relation) != store.tables.end())
    mark_stale();
}

void schema_changed(Datum, int, uint32) {
  mark_stale();
}

void roles_changed(Datum, int, uint32) {
  descriptor.user = InvalidOid;
}

}  // namespace

const Store& open_store_at_any_layout() {
  for (int attempt = 0; !descriptor.fresh && attempt < most_attempts; ++attempt) {
    const uint64 generation = descriptor.generation;
    find_tables(descriptor.store);
    read_layout(descriptor.store);
    check_tables(descriptor.store);
    check_columns(descriptor.store);
    descriptor.store.price_typmod = typmod_of(descriptor.store.table(Table::order_items), "price");
    descriptor.store.total_typmod =
        typmod_of(descriptor.store.table(Table::orders), "total_amount");
    descriptor.fresh = descriptor.generation == generation;
  }
  return descriptor.store;
}

namespace {

/// Statements of ours are planned once, and only planning asks for USAGE on the schema.
void require_schema_usage() {
  if (descriptor.user == GetUserId()) return;
  if (!pg::may_use_schema(descriptor.store.schema, GetUserId()))
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
            errmsg("permission denied for schema %s", schema_name),
            errhint("SELECT order_proc.grant_store('%s', 'read');",
                    GetUserNameFromId(GetUserId(), false)));
  descriptor.user = GetUserId();
}

}  // namespace

const Store& open_store_for_anyone() {
  for (int attempt = 0; !descriptor.checked && attempt < most_attempts; ++attempt) {
    const Store& store = open_store_at_any_layout();
    const uint64 generation = descriptor.generation;
    check(store);
    descriptor.checked = descriptor.generation == generation;
  }
  return descriptor.store;
}

const Store& open_store() {
  const Store& store = open_store_for_anyone();
  require_schema_usage();
  return store;
}

const Store& open_store(std::initializer_list<std::pair<Table, LOCKMODE>> locks) {
  for (int attempt = 0;; ++attempt) {
    const Store& store = open_store();
    const uint64 generation = descriptor.generation;
    for (const auto& [table, mode] : locks) LockRelationOid(store.table(table), mode);
    if (descriptor.generation == generation || attempt == most_attempts) return store;
  }
}

std::size_t extension_layout() {
  return extension_layout(nullptr);
}

bool store_schema_exists() {
  return OidIsValid(get_namespace_oid(schema_name, true));
}

bool store_made_in_this_transaction() {
  const HeapTuple row =
      SearchSysCache1(RELOID, ObjectIdGetDatum(get_relname_relid(
                                  table_names[0].name, get_namespace_oid(schema_name, true))));
  if (!HeapTupleIsValid(row)) return false;
  const bool made = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data));
  ReleaseSysCache(row);
  return made;
}

bool store_present() {
  return OidIsValid(get_relname_relid(table_names[0].name, get_namespace_oid(schema_name, true)));
}

uint64 store_generation() {
  return descriptor.generation;
}

void invalidate_store() {
  const Oid table = get_relname_relid(table_names[0].name, get_namespace_oid(schema_name, true));
  if (OidIsValid(table)) CacheInvalidateRelcacheByRelid(table);
  mark_stale();
}

Oid table_owner(Oid table) {
  const HeapTuple row = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
  if (!HeapTupleIsValid(row)) return InvalidOid;
  const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(row))->relowner;
  ReleaseSysCache(row);
  return owner;
}

bool is_our_function(Oid function, std::string_view name) {
  const char* const its_name = get_func_name(function);
  return its_name != nullptr && its_name == name &&
         get_func_namespace(function) == get_namespace_oid("order_proc", true);
}

bool has_trigger(Oid table, std::string_view function) {
  const Relation relation = table_open(table, AccessShareLock);
  const TriggerDesc* const triggers = relation->trigdesc;
  bool found = false;
  for (int i = 0; triggers != nullptr && i < triggers->numtriggers && !found; ++i)
    found = is_our_function(triggers->triggers[i].tgfoid, function);
  table_close(relation, AccessShareLock);
  return found;
}

void require_store_owner(const Store& store, const char* action) {
  if (!has_privs_of_role(GetUserId(), store.owner))
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
            errmsg("only the owner of the store may %s", action),
            errhint("The store belongs to %s.",
                    quote_identifier(GetUserNameFromId(store.owner, false))));
}

void require_one_owner(const Store& store) {
  const char* const owner_name = quote_identifier(GetUserNameFromId(store.owner, false));
  for (std::size_t i = 0; i < table_count; ++i) {
    const char* const name = table_names[i].name;
    if (store.layout.index < table_names[i].since || table_owner(store.tables[i]) == store.owner)
      continue;
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("order_store.%s belongs to %s, the store to %s", name,
                   quote_identifier(GetUserNameFromId(table_owner(store.tables[i]), false)),
                   owner_name),
            errhint("ALTER TABLE order_store.%s OWNER TO %s;", name, owner_name));
  }
}

bool lacks_triggers(const Store& store) {
  return missing_trigger(store).has_value();
}

void watch_store() {
  CacheRegisterRelcacheCallback(relation_changed, 0);
  CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, 0);
  CacheRegisterSyscacheCallback(AUTHOID, roles_changed, 0);
  CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, 0);
}

}  // namespace order_proc
