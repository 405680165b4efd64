// The SQL side of imports: the triggers of the views, the settings. BEFORE STATEMENT pushes an
// import, the row trigger feeds it, AFTER STATEMENT loads and pops it: so an INSERT inside
// another's SELECT list has an import of its own.
#include "import.hpp"

#include "amounts.hpp"
#include "core/line_parser.hpp"
#include "fast_path_facts.hpp"
#include "pg/compat.hpp"
#include "pg/copy_position.hpp"
#include "pg/error.hpp"
#include "pg/record.hpp"
#include "pg/trigger.hpp"
#include "pg/user.hpp"
#include "routing.hpp"
#include "statuses.hpp"

namespace order_proc {

int import_on_error = import_skip_row;
bool import_create_customers = false;

namespace {

constexpr std::array<config_enum_entry, 4> on_error_options{
    {{"skip_row", import_skip_row, false},
     {"skip_order", import_skip_order, false},
     {"abort", import_abort, false},
     {nullptr, 0, false}}};

constexpr std::size_t column_count = 7;
constexpr std::array<std::string_view, column_count> header{
    "order_ref", "customer_id", "product_id", "quantity", "price", "created_at", "status"};

Import* current = nullptr;  ///< the innermost one

/// Takes the import off the stack, wherever it stands.
void forget_import(void* argument) {
  for (Import** link = &current; *link != nullptr; link = &(*link)->outer)
    if (*link == argument) {
      *link = (*link)->outer;
      return;
    }
}

void begin_sort(Import& import) {
  const TupleDesc descriptor = sorted_line_descriptor();
  // By a number first: texts are compared within an order only.
  std::array<AttrNumber, 3> keys{1, 2, 3};
  std::array<Oid, 3> less{Int8LessOperator, TextLessOperator, Int8LessOperator};
  std::array<Oid, 3> collations{InvalidOid, C_COLLATION_OID, InvalidOid};
  std::array<bool, 3> nulls_first{};
  import.lines = tuplesort_begin_heap(descriptor, 3, keys.data(), less.data(), collations.data(),
                                      nulls_first.data(), work_mem, nullptr, TUPLESORT_NONE);
  import.line_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
  import.spill_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
}

}  // namespace

TupleDesc sorted_line_descriptor() {
  const TupleDesc descriptor = CreateTemplateTupleDesc(5);
  TupleDescInitEntry(descriptor, 1, "hash", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "order_ref", TEXTOID, -1, 0);
  TupleDescInitEntryCollation(descriptor, 2, C_COLLATION_OID);
  TupleDescInitEntry(descriptor, 3, "line", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 4, "data", BYTEAOID, -1, 0);
  TupleDescInitEntry(descriptor, 5, "raw", TEXTOID, -1, 0);
  return descriptor;
}

void require_import_rights(const Store& store) {
  const auto require = [&](Table table, const char* name,
                           std::initializer_list<const char*> columns) {
    std::array<AttrNumber, 8> numbers{};
    std::size_t count = 0;
    for (const char* column : columns) numbers[count++] = get_attnum(store.table(table), column);
    if (!pg::caller_may({store.table(table), ACL_INSERT, {}, {numbers.data(), count}}))
      aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
  };
  require(Table::orders, "orders",
          {"id", "customer_id", "status", "total_amount", "customer_name", "customer_email"});
  require(Table::order_items, "order_items", {"order_id", "product_id", "quantity", "price"});
}

// The parser reads amounts with two decimals.
void require_two_decimals(const Store& store) {
  if (store.price_typmod != price_typmod || store.total_typmod != total_typmod)
    ereport(
        ERROR, errcode(pg::store_mismatch),
        errmsg(
            "imports need order_items.price numeric(10,2) and orders.total_amount numeric(12,2)"),
        errhint("Import into staging tables and use create_order_with_items, which takes any "
                "numeric."));
}

namespace {

/// The cluster, when the lines have to go to its shards; null: they stay here.
const Cluster* cluster_to_load(const Store& store) {
  if (cluster_of(store).role != Role::coordinator) return nullptr;
  if (!store.layout.has_routed_imports())
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("a coordinator imports from version %s on",
                   core::layouts[core::routed_imports_since].data()),
            errhint("ALTER EXTENSION order_proc UPDATE; on the shards and here."));
  const Cluster* const cluster = routed(imports_orders);
  if (import_create_customers) (void)routed(imports_customers);
  auto* const copy = static_cast<Cluster*>(palloc(sizeof(Cluster)));
  *copy = *cluster;
  return copy;
}

void push_import(Oid view) {
  PreventCommandIfReadOnly("COPY FROM");
  PreventCommandIfParallelMode("COPY FROM");
  const Store store =
      open_store({{Table::customers, import_create_customers ? RowExclusiveLock : RowShareLock},
                  {Table::orders, RowExclusiveLock},
                  {Table::order_items, RowExclusiveLock}});
  require_import_rights(store);
  require_two_decimals(store);
  // Goes with the (sub)transaction, whatever ends it.
  const MemoryContext memory =
      AllocSetContextCreate(CurTransactionContext, "order_proc import", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  auto* const import = static_cast<Import*>(palloc0(sizeof(Import)));
  auto* const callback =
      static_cast<MemoryContextCallback*>(palloc0(sizeof(MemoryContextCallback)));
  import->outer = current;
  import->memory = memory;
  import->view = view;
  import->store = store;
  import->start = GetCurrentTimestamp();
  import->copying = pg::copy_position(view).copying;
  callback->func = forget_import;
  callback->arg = import;
  MemoryContextRegisterResetCallback(memory, callback);
  current = import;
  begin_sort(*import);
  begin_rejects(*import);
  import->cluster = cluster_to_load(store);
  const std::span<text*> statuses =
      import->cluster != nullptr ? statuses_of_shards(*import->cluster) : copy_statuses(store);
  import->statuses = statuses.data();
  import->status_count = static_cast<int>(statuses.size());
  import->counts.import_id = pg::as_user(table_owner(store.table(Table::import_rejects)), [&] {
    return nextval_internal(get_relname_relid("import_id_seq", store.schema), true);
});
MemoryContextSwitchTo(saved);
}  // namespace

/// Columns of the extension's views: seven of them, or one that is a line. Anybody may put our
/// trigger functions on a view of his own, whose columns may be anything.
int column_count_of(Relation view, const char* name) {
  const Oid schema = get_namespace_oid("order_proc", true);
  const Oid oid = RelationGetRelid(view);
  if (oid == get_relname_relid("order_import", schema)) return column_count;
  if (oid == get_relname_relid("order_import_lines", schema)) return 1;
  ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
          errmsg("%s() is a trigger function for the views for imports, not for \"%s\"", name,
                 RelationGetRelationName(view)));
}

/// The innermost import into the view: with several views in one statement (WITH) they come in
/// turn.
Import& import_of(Relation view, const char* name) {
  for (Import* import = current; import != nullptr; import = import->outer)
    if (import->view == RelationGetRelid(view)) return *import;
  ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
          errmsg("%s() needs the statement triggers of \"%s\" beside it", name,
                 RelationGetRelationName(view)));
}

/// The row as COPY's trigger must answer it. Returning the row itself would leak it for each line
/// (the server frees its copy only when another one comes back); RETURNING wants it all the same.
HeapTuple answer(Import& import, const TriggerData* trigger) {
  if (!import.copying) return heap_copytuple(trigger->tg_trigtuple);
  if (import.no_columns == nullptr) {
    const TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls;
    nulls.fill(true);
    const MemoryContext saved = MemoryContextSwitchTo(import.memory);
    import.no_columns = heap_form_tuple(descriptor, values.data(), nulls.data());
    MemoryContextSwitchTo(saved);
  }
  return import.no_columns;
}

pg::Text column_text(TupleTableSlot* slot, int column) {
  bool null;
  const Datum value = slot_getattr(slot, column, &null);
  return null ? pg::Text{} : pg::Text{DatumGetTextPP(value)};
}

/// Lines are numbered as COPY does, under INSERT from 1.
int64 line_number(const Import& import, const pg::CopyPosition& position) {
  return position.copying ? static_cast<int64>(position.line)
                          : import.counts.lines + import.passed_over + 1;
}

/// What an INSERT gave, put together as a line for a reject.
std::string_view joined(std::span<const pg::Text> columns) {
  StringInfoData line;
  initStringInfo(&line);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i > 0) appendStringInfoChar(&line, ',');
    if (columns[i]) append_csv(&line, columns[i].view());
  }
  return {line.data, static_cast<std::size_t>(line.len)};
}

// A line that comes as one text.

bool is_header(std::span<const core::Field> fields) {
  for (std::size_t i = 0; i < column_count; ++i)
    if (pg_strncasecmp(fields[i].text.data(), header[i].data(),
                       std::max(fields[i].text.size(), header[i].size())) != 0 ||
        fields[i].text.size() != header[i].size())
      return false;
  return true;
}

text* to_text(std::string_view value) {
  return cstring_to_text_with_len(value.data(), static_cast<int>(value.size()));
}

const char* split_message(core::SplitFault fault, std::size_t count) {
  switch (fault) {
    case core::SplitFault::bad_quoting:
      return "the line's quotes do not match";
    case core::SplitFault::too_many_fields:
      return "the line has more than 7 fields";
    case core::SplitFault::none:
      break;
  }
  return psprintf("the line has %zu fields, not 7", count);
}

void read_raw_line(Import& import, pg::Text text, int64 number) {
  // COPY in CSV hands an empty line over as NULL.
  const std::string_view line = text ? text.view() : std::string_view{};
  if (line.empty() || line == "\r") {
    ++import.passed_over;
    return;
  }
  std::array<core::Field, column_count> fields;
  char* const scratch = static_cast<char*>(palloc_extended(line.size() + 1, MCXT_ALLOC_HUGE));
  const auto [fault, count] =
      pg::core_call(core::split_csv, line, std::span<core::Field>(fields), scratch);
  const bool whole = fault == core::SplitFault::none && count == column_count;
  if (whole && import.counts.lines == 0 && is_header(fields)) {
    ++import.passed_over;
    return;
  }
  std::array<pg::Text, column_count> columns;
  for (std::size_t i = 0; i < count; ++i)
    if (!fields[i].null) columns[i] = {to_text(fields[i].text)};
  if (whole) return read_line(import, columns, number, line);
  ++import.counts.lines;
  // The order that the line belongs to may be told all the same.
  reject_of_order(import, columns[0],
                  {number, ERRCODE_BAD_COPY_FILE_FORMAT, split_message(fault, count), line});
}

void tell(const Import& import) {
  const ImportCounts& counts = import.counts;
  ereport(NOTICE,
          errmsg("import " INT64_FORMAT ": " INT64_FORMAT " orders with " INT64_FORMAT
                 " items made, " INT64_FORMAT " orders known before, " INT64_FORMAT
                 " of " INT64_FORMAT " lines rejected",
                 counts.import_id, counts.orders, counts.items, counts.known, counts.rejected,
                 counts.lines),
          counts.rejected == 0
              ? 0
              : errhint("SELECT * FROM order_store.import_rejects WHERE import_id = " INT64_FORMAT
                        " ORDER BY line_number;",
                        counts.import_id));
}

}  // namespace order_proc

void define_import_settings() {
  DefineCustomEnumVariable("order_proc.import_on_error", "What becomes of bad lines in imports.",
                           "skip_row leaves the line out, skip_order its whole order, abort fails.",
                           &import_on_error, import_skip_row, on_error_options.data(), PGC_USERSET,
                           0, nullptr, nullptr, nullptr);
  DefineCustomBoolVariable(
      "order_proc.import_create_customers", "Makes the unknown customers of imports.", nullptr,
      &import_create_customers, false, PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_begin_import);
Datum order_proc_begin_import(PG_FUNCTION_ARGS) {
  const TriggerData* const trigger = pg::trigger_data(fcinfo, "begin_import");
  pg::require_trigger(TRIGGER_FIRED_BEFORE(trigger->tg_event) &&
                          !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
                          TRIGGER_FIRED_BY_INSERT(trigger->tg_event),
                      "begin_import", "BEFORE INSERT FOR EACH STATEMENT");
  (void)column_count_of(trigger->tg_relation, "begin_import");
  push_import(RelationGetRelid(trigger->tg_relation));
  return PointerGetDatum(nullptr);
}

PG_FUNCTION_INFO_V1(order_proc_import_line);
Datum order_proc_import_line(PG_FUNCTION_ARGS) {
  const TriggerData* const trigger = pg::trigger_data(fcinfo, "import_line");
  pg::require_trigger(
      TRIGGER_FIRED_INSTEAD(trigger->tg_event) && TRIGGER_FIRED_BY_INSERT(trigger->tg_event),
      "import_line", "INSTEAD OF INSERT FOR EACH ROW");
  const int count = column_count_of(trigger->tg_relation, "import_line");
  Import& import = import_of(trigger->tg_relation, "import_line");
  const pg::CopyPosition position = pg::copy_position(import.view);
  import.copying = position.copying;
  std::array<pg::Text, column_count> columns;
  for (int i = 0; i < count; ++i)
    columns[static_cast<std::size_t>(i)] = column_text(trigger->tg_trigslot, i + 1);
  const int64 number = line_number(import, position);
  if (count == 1)
    read_raw_line(import, columns[0], number);
  else
    read_line(import, columns, number,
              position.text.data() != nullptr ? position.text : joined(columns));
  return PointerGetDatum(answer(import, trigger));
}

PG_FUNCTION_INFO_V1(order_proc_end_import);
Datum order_proc_end_import(PG_FUNCTION_ARGS) {
  const TriggerData* const trigger = pg::trigger_data(fcinfo, "end_import");
  pg::require_trigger(
      TRIGGER_FIRED_AFTER(trigger->tg_event) && !TRIGGER_FIRED_FOR_ROW(trigger->tg_event),
      "end_import", "AFTER INSERT FOR EACH STATEMENT");
  (void)column_count_of(trigger->tg_relation, "end_import");
  Import& import = import_of(trigger->tg_relation, "end_import");
  const MemoryContext saved = MemoryContextSwitchTo(import.memory);
  finish_reading(import);
  load_orders(import);
  write_rejects(import);
  MemoryContextSwitchTo(saved);
  tell(import);
  note_last_import(import);
  MemoryContextDelete(import.memory);
  return PointerGetDatum(nullptr);
}

}  // extern "C"

}  // namespace order_proc
