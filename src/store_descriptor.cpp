// The descriptor of the store: filled by name look-ups and one plain scan, checked against what
// functions use (store_shape.cpp), and read anew when something of it changed. A table is looked up
// when it is first asked for: a new session knows nothing of the catalogue, and a shard that is
// connected to for one query needs little of it.
#include "store_shape.hpp"

#include "pg/args.hpp"
#include "pg/compat.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"

namespace order_proc {

namespace {

constexpr const char* schema_name = "order_store";

struct Descriptor {
  Store store;
  TableSet fresh;         ///< whose names and columns are true; any: the layout, too
  TableSet checked;       ///< whose triggers are there, too; any: the layout is the extension's
  uint64 generation = 0;  ///< invalidations so far
  Oid user = InvalidOid;  ///< who may use the schema, as far as was asked
};
Descriptor descriptor;

/// A server that discards its caches all the time (debug_discard_caches) invalidates forever.
constexpr int most_attempts = 10;

[[noreturn]] void no_store() {
  ereport(ERROR, errcode(pg::no_store), errmsg("there is no store in this database"),
          errhint("SELECT order_proc.create_store();"));
}

/// A dropped and remade store must be found under its new oids, so names are looked up anew each
/// time.
void find_store(Store& store) {
  store.schema = get_namespace_oid(schema_name, true);
  if (!OidIsValid(store.schema)) no_store();
  if (!find_tables(store.schema, {Table::store}, store.tables) &&
      !find_tables(store.schema, TableSet::whole(), store.tables))
    no_store();
  require_table(store, Table::store);
  store.owner = table_owner(store.table(Table::store));
}

/// The one row of order_store.store.
struct StoreRow {
  core::Layout layout;
  core::Placement placement;
  TransactionId written_by;  ///< invalid when that is long ago
};

/// Reads it by a plain scan: no SQL, no rights, no user code.
StoreRow read_store_row(Oid store_table, Snapshot snapshot) {
  const Relation table = table_open(store_table, AccessShareLock);
  const TupleDesc columns = RelationGetDescr(table);
  const int layout_column = SPI_fnumber(columns, "layout");
  const int placement_column = SPI_fnumber(columns, "placement");
  if (table->rd_rel->relkind != RELKIND_RELATION || layout_column <= 0 || placement_column <= 0 ||
      SPI_gettypeid(columns, layout_column) != TEXTOID ||
      SPI_gettypeid(columns, placement_column) != TEXTOID)
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
  const HeapTupleHeader header =
      TTS_IS_BUFFERTUPLE(row) ? ExecFetchSlotHeapTuple(row, false, nullptr)->t_data : nullptr;
  const StoreRow result{{*known},
                        placement == core::name_of(core::Placement::modulo)
                            ? core::Placement::modulo
                            : core::Placement::hash,
                        header == nullptr ? InvalidTransactionId : HeapTupleHeaderGetXmin(header)};
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

StoreRow read_store_row_now(Oid table) {
  return with_fresh_snapshot(table,
                             [&](Snapshot snapshot) { return read_store_row(table, snapshot); });
}

void read_layout(Store& store) {
  const StoreRow row = read_store_row_now(store.table(Table::store));
  store.layout = row.layout;
  store.placement = row.placement;
}

int32 typmod_of(Oid table, const char* column) {
  Oid type;
  int32 typmod;
  Oid collation;
  get_atttypetypmodcoll(table, get_attnum(table, column), &type, &typmod, &collation);
  (void)getBaseTypeAndTypmod(type, &typmod);
  return typmod;
}

/// nullptr: with a catalog snapshot.
std::size_t extension_layout(Snapshot snapshot) {
  const Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
              CStringGetDatum("order_proc"));
  // Of a page: to open its index would take a new session longer than to read it.
  const SysScanDesc scan =
      systable_beginscan(extensions, ExtensionNameIndexId, false, snapshot, 1, &key);
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
  descriptor.fresh = descriptor.checked = {};
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

std::optional<Mismatch> check(const Store& store, TableSet tables) {
  if (!descriptor.checked.empty() || same_layout_as_extension(store))
    return missing_trigger(store, tables);
  mark_stale();
  return std::nullopt;
}

/// What a migration changed is seen a moment before it is announced, and its locks go after that:
/// who has waited for them knows of the migration that the store's row is of.
void await_announcement() {
  const TransactionId writer = read_store_row_now(descriptor.store.table(Table::store)).written_by;
  if (TransactionIdIsNormal(writer) && !TransactionIdIsCurrentTransactionId(writer))
    XactLockTableWait(writer, nullptr, nullptr, XLTW_None);
  AcceptInvalidationMessages();
}

/// Raises OP002, but for what was found while the store changed: that is to be looked at again.
void raise_unless_changed(const Mismatch& wrong, uint64 generation, bool last_attempt) {
  AcceptInvalidationMessages();
  if (descriptor.generation == generation) await_announcement();
  if (descriptor.generation == generation || last_attempt) mismatch(wrong);
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

namespace {

/// Of tables and of order_store.store, which tells what the others must look like.
TableSet with_store(TableSet tables) {
  tables.add(Table::store);
  return tables;
}

/// Looks the tables up, and what hangs on them; what is wrong with them.
std::optional<Mismatch> fill(Store& store, TableSet tables) {
  (void)find_tables(store.schema, tables, store.tables);
  if (const auto wrong = wrong_table(store, tables)) return wrong;
  if (const auto wrong = wrong_column(store, tables)) return wrong;
  if (!tables.has_sequences()) return std::nullopt;
  store.orders_sequence = get_relname_relid("orders_id_seq", store.schema);
  store.customers_sequence = get_relname_relid("customers_id_seq", store.schema);
  store.price_typmod = typmod_of(store.table(Table::order_items), "price");
  store.total_typmod = typmod_of(store.table(Table::orders), "total_amount");
  return std::nullopt;
}

}  // namespace

const Store& open_tables_at_any_layout(TableSet tables) {
  const TableSet wanted = with_store(tables);
  for (int attempt = 0; !descriptor.fresh.covers(wanted) && attempt < most_attempts; ++attempt) {
    const uint64 generation = descriptor.generation;
    if (descriptor.fresh.empty()) {
      find_store(descriptor.store);
      read_layout(descriptor.store);
    }
    // What was found stale meanwhile is looked up with the rest at the next attempt.
    const TableSet missing = wanted.without(descriptor.fresh);
    if (const auto wrong = fill(descriptor.store, missing))
      raise_unless_changed(*wrong, generation, attempt + 1 == most_attempts);
    else if (descriptor.generation == generation)
      descriptor.fresh.add(missing);
  }
  return descriptor.store;
}

const Store& open_store_at_any_layout() {
  return open_tables_at_any_layout(TableSet::whole());
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

const Store& open_tables_for_anyone(TableSet tables) {
  const TableSet wanted = with_store(tables);
  for (int attempt = 0; !descriptor.checked.covers(wanted) && attempt < most_attempts; ++attempt) {
    const Store& store = open_tables_at_any_layout(wanted);
    const uint64 generation = descriptor.generation;
    const TableSet missing = wanted.without(descriptor.checked);
    if (const auto wrong = check(store, missing))
      raise_unless_changed(*wrong, generation, attempt + 1 == most_attempts);
    else if (descriptor.generation == generation)
      descriptor.checked.add(missing);
  }
  return descriptor.store;
}

const Store& open_tables(TableSet tables) {
  const Store& store = open_tables_for_anyone(tables);
  require_schema_usage();
  return store;
}

const Store& open_also(TableSet tables) {
  return descriptor.checked.empty() ? open_tables_at_any_layout(tables)
                                    : open_tables_for_anyone(tables);
}

const Store& open_store_for_anyone() {
  return open_tables_for_anyone(TableSet::whole());
}

const Store& open_store() {
  return open_tables(TableSet::whole());
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
                                  table_name(Table::store), get_namespace_oid(schema_name, true))));
  if (!HeapTupleIsValid(row)) return false;
  const bool made = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data));
  ReleaseSysCache(row);
  return made;
}

bool store_present() {
  return OidIsValid(
      get_relname_relid(table_name(Table::store), get_namespace_oid(schema_name, true)));
}

uint64 store_generation() {
  return descriptor.generation;
}

void invalidate_store() {
  const Oid table =
      get_relname_relid(table_name(Table::store), get_namespace_oid(schema_name, true));
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
  const Relation relation = try_table_open(table, AccessShareLock);
  if (relation == nullptr) return false;
  const TriggerDesc* const triggers = relation->trigdesc;
  bool found = false;
  for (int i = 0; triggers != nullptr && i < triggers->numtriggers && !found; ++i)
    found = is_our_function(triggers->triggers[i].tgfoid, function);
  table_close(relation, AccessShareLock);
  return found;
}

bool others_may_change_rows(Oid table, int16 trigger_event) {
  const Relation relation = table_open(table, NoLock);
  const TriggerDesc* const triggers = relation->trigdesc;
  // Partitions have triggers of their own.
  bool may = relation->rd_rules != nullptr || relation->rd_rel->relkind != RELKIND_RELATION;
  for (int i = 0; triggers != nullptr && i < triggers->numtriggers && !may; ++i) {
    const Trigger& trigger = triggers->triggers[i];
    may = TRIGGER_TYPE_MATCHES(trigger.tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_BEFORE,
                               trigger_event) &&
          !is_our_function(trigger.tgfoid, "check_slot") &&
          !is_our_function(trigger.tgfoid, "sync_customer_name");
  }
  table_close(relation, NoLock);
  return may;
}

void require_store_owner(const Store& store, const char* action) {
  if (!has_privs_of_role(GetUserId(), store.owner))
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
            errmsg("only the owner of the store may %s", action),
            errhint("The store belongs to %s.",
                    quote_identifier(GetUserNameFromId(store.owner, false))));
}

void watch_store() {
  CacheRegisterRelcacheCallback(relation_changed, 0);
  CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, 0);
  CacheRegisterSyscacheCallback(AUTHOID, roles_changed, 0);
  CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, 0);
}

}  // namespace order_proc
