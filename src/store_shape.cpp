// The expectations are tables of constants; what does not meet them is told with the statement that
// mends it.
#include "store_shape.hpp"

extern "C" {
#include "utils/catcache.h"
}

#include "pg/compat.hpp"
#include "pg/error.hpp"

namespace order_proc {

namespace {

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
                                                      {"commit_log", 7},
                                                      {"receipts", 8},
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
    Column{Table::commit_log, "gid", TEXTOID, 7},
    Column{Table::commit_log, "shard_ids", INT4ARRAYOID, 7},
    Column{Table::commit_log, "decided_at", TIMESTAMPTZOID, 7},
    Column{Table::commit_log, "damaged", INT4ARRAYOID, 8},
    Column{Table::receipts, "gid", TEXTOID, 8},
    Column{Table::receipts, "receipt_key", INT8OID, 8},
    Column{Table::receipts, "written_at", TIMESTAMPTZOID, 8},
    Column{Table::sagas, "id", INT8OID, 8},
    Column{Table::sagas, "order_id", INT8OID, 8},
    Column{Table::sagas, "step", TEXTOID, 8},
    Column{Table::sagas, "compensation", TEXTOID, 8},
    Column{Table::sagas, "recorded_by", TEXTOID, 8},
    Column{Table::sagas, "attempts", INT4OID, 8},
    Column{Table::sagas, "attempted_at", TIMESTAMPTZOID, 8},
    Column{Table::sagas, "last_error", TEXTOID, 8},
};

bool is_table(Oid relation) {
  const char kind = OidIsValid(relation) ? get_rel_relkind(relation) : '\0';
  return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

Mismatch not_a_table(const char* name) {
  return {psprintf("order_store.%s is not a table of the store", name),
          "Bring the table back under its name, or restore it from a backup."};
}

}  // namespace

const char* table_name(Table which) {
  return table_names[static_cast<std::size_t>(which)].name;
}

void mismatch(const char* message, const char* hint) {
  mismatch({message, hint});
}

void mismatch(const Mismatch& wrong) {
  ereport(ERROR, errcode(pg::store_mismatch), errmsg("%s", wrong.message),
          errhint("%s", wrong.hint));
}

namespace {

[[noreturn]] void dropped() {
  mismatch("a table of the store was dropped in the middle of the call",
           "Look for a trigger that does so: SELECT * FROM pg_catalog.pg_trigger;");
}

}  // namespace

Relation open_table(Oid table, LOCKMODE lock) {
  const Relation relation = try_table_open(table, lock);
  if (relation == nullptr) dropped();
  return relation;
}

Relation open_table_of_layout(const Store& store, Table which, LOCKMODE lock) {
  const Relation relation = try_table_open(store.table(which), lock);
  const std::size_t since = table_names[static_cast<std::size_t>(which)].since;
  if (relation == nullptr && open_also({which}).layout.index >= since) dropped();
  return relation;
}

bool find_tables(Oid schema, TableSet which, std::span<Oid, table_count> tables) {
  bool any = false;
  for (std::size_t i = 0; i < table_count; ++i) {
    if (!which.has(i)) continue;
    tables[i] = get_relname_relid(table_names[i].name, schema);
    any |= OidIsValid(tables[i]);
  }
  return any;
}

void require_table(const Store& store, Table which) {
  if (!is_table(store.table(which))) mismatch(not_a_table(table_name(which)));
}

std::optional<Mismatch> wrong_table(const Store& store, TableSet which) {
  for (std::size_t i = 0; i < table_count; ++i)
    if (which.has(i) && store.layout.index >= table_names[i].since && !is_table(store.tables[i]))
      return not_a_table(table_names[i].name);
  return std::nullopt;
}

namespace {

/// The type of a column; InvalidOid without one.
Oid type_in(CatCList* attributes, const char* column) {
  for (int i = 0; i < attributes->n_members; ++i) {
    const auto& attribute =
        *reinterpret_cast<Form_pg_attribute>(GETSTRUCT(&attributes->members[i]->tuple));
    if (!attribute.attisdropped && std::string_view(NameStr(attribute.attname)) == column)
      return attribute.atttypid;
  }
  return InvalidOid;
}

Oid type_in(TupleDesc descriptor, const char* column) {
  const int number = SPI_fnumber(descriptor, column);
  return number > 0 ? SPI_gettypeid(descriptor, number) : InvalidOid;
}

/// Those that the library itself reads: they are opened anyway.
constexpr TableSet scanned{Table::store, Table::cluster, Table::shards, Table::slot_map};

std::optional<Mismatch> wrong_column(const Column& column, Oid type) {
  const bool missing = !OidIsValid(type);
  if (!missing && (type == column.type || getBaseType(type) == column.type)) return std::nullopt;
  const char* const name = table_name(column.table);
  const char* const wanted = format_type_be(column.type);
  if (missing)
    return Mismatch{
        psprintf("column \"%s\" of order_store.%s is missing", column.name, name),
        psprintf("ALTER TABLE order_store.%s ADD COLUMN %s %s;", name, column.name, wanted)};
  return Mismatch{
      psprintf("column \"%s\" of order_store.%s has type %s, not %s", column.name, name,
               format_type_be(type), wanted),
      psprintf("ALTER TABLE order_store.%s ALTER COLUMN %s TYPE %s;", name, column.name, wanted)};
}

/// The first of the table's that is not as it should be; `attributes` are those it has.
std::optional<Mismatch> wrong_column(const Store& store, std::size_t table, auto* attributes) {
  for (const Column& column : columns)
    if (column.table == static_cast<Table>(table) && store.layout.index >= column.since &&
        store.layout.index < column.until)
      if (const auto wrong = wrong_column(column, type_in(attributes, column.name))) return wrong;
  return std::nullopt;
}

std::optional<Mismatch> wrong_column(const Store& store, std::size_t table) {
  if (scanned.has(table)) {
    const Relation relation = try_table_open(store.tables[table], AccessShareLock);
    if (relation == nullptr) return not_a_table(table_names[table].name);
    const auto wrong = wrong_column(store, table, RelationGetDescr(relation));
    table_close(relation, AccessShareLock);
    return wrong;
  }
  // All of a table at once: one by one they would be most of the time of a session's first call.
  CatCList* const attributes = SearchSysCacheList1(ATTNUM, ObjectIdGetDatum(store.tables[table]));
  const auto wrong = wrong_column(store, table, attributes);
  ReleaseCatCacheList(attributes);
  return wrong;
}

}  // namespace

std::optional<Mismatch> wrong_column(const Store& store, TableSet which) {
  for (std::size_t table = 0; table < table_count; ++table)
    if (which.has(table) && store.layout.index >= table_names[table].since)
      if (const auto wrong = wrong_column(store, table)) return wrong;
  if (!which.has_sequences()) return std::nullopt;
  for (const auto& [name, since] : sequence_names) {
    if (store.layout.index < since) continue;
    const Oid sequence = get_relname_relid(name, store.schema);
    if (!OidIsValid(sequence) || get_rel_relkind(sequence) != RELKIND_SEQUENCE)
      return Mismatch{psprintf("sequence order_store.%s is missing", name),
                      "Bring the sequence back under its name."};
  }
  return std::nullopt;
}

std::optional<Mismatch> missing_trigger(const Store& store, TableSet which) {
  // DROP EXTENSION ... CASCADE takes them and leaves the rows.
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
    if (!which.has(trigger.table) || store.layout.index < trigger.since ||
        store.layout.index >= trigger.until ||
        has_trigger(store.table(trigger.table), trigger.function))
      continue;
    return Mismatch{psprintf("the trigger on order_store.%s that calls order_proc.%s is missing",
                             table_name(trigger.table), trigger.function),
                    migrate_hint};
  }
  return std::nullopt;
}

bool lacks_triggers(const Store& store) {
  return missing_trigger(store, TableSet::whole()).has_value();
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

}  // namespace order_proc
