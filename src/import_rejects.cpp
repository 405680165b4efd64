// Lines that are left out: sorted by line number as they come from both phases, written as the
// owner of order_store.import_rejects when the statement ends.
#include "fast_path_insert.hpp"
#include "import.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

constexpr int sort_memory = 4096;           ///< kB
constexpr std::size_t longest_raw = 65536;  ///< bytes of a line that are kept
constexpr std::size_t rejects_per_insert = 1000;

pg::Statement insert_rejects{
    "INSERT INTO order_store.import_rejects (import_id, line_number, raw_line, sqlstate, message, "
    "imported_by) SELECT $1, u.line_number, u.raw_line, u.sqlstate, u.message, $6 "
    "FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
    "pg_catalog.unnest($5)) AS u(line_number, raw_line, sqlstate, message)",
    INT8OID,
    INT8ARRAYOID,
    TEXTARRAYOID,
    TEXTARRAYOID,
    TEXTARRAYOID,
    TEXTOID};

Datum text_datum(std::string_view value) {
  return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

/// Columns of some rejects, to be inserted at once.
struct RejectBatch {
  std::array<Datum, rejects_per_insert> lines;
  std::array<Datum, rejects_per_insert> raws;
  std::array<Datum, rejects_per_insert> states;
  std::array<Datum, rejects_per_insert> messages;
  int count;
};

Datum text_array(Datum* values, int count) {
  return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

void insert_by_executor(const Import& import, RejectBatch& batch, Datum by) {
  const int count = batch.count;
  pg::with_spi([&] {
    pg::as_user(table_owner(import.store.table(Table::import_rejects)), [&] {
      insert_rejects.run(
          import.store.layout.index,
          {pg::Value(Int64GetDatum(import.counts.import_id)),
           pg::Value(PointerGetDatum(construct_array(batch.lines.data(), count, INT8OID,
                                                     sizeof(int64), true, TYPALIGN_DOUBLE))),
           pg::Value(text_array(batch.raws.data(), count)),
           pg::Value(text_array(batch.states.data(), count)),
           pg::Value(text_array(batch.messages.data(), count)), pg::Value(by)});
    });
  });
}

/// Slots for a batch, made once an import.
TupleTableSlot** reject_slots(Import& import, const Facts& facts) {
  if (import.reject_rows == nullptr) {
    const MemoryContext saved = MemoryContextSwitchTo(import.memory);
    const TupleDesc descriptor = CreateTupleDescCopy(facts.rejects.descriptor);
    import.reject_rows =
        static_cast<TupleTableSlot**>(palloc(sizeof(TupleTableSlot*) * rejects_per_insert));
    for (std::size_t i = 0; i < rejects_per_insert; ++i)
      import.reject_rows[i] = MakeSingleTupleTableSlot(descriptor, &TTSOpsHeapTuple);
    MemoryContextSwitchTo(saved);
  }
  return import.reject_rows;
}

void insert_by_direct_access(Import& import, const Facts& facts, const RejectBatch& batch,
                             Datum by) {
  TupleTableSlot** const slots = reject_slots(import, facts);
  const auto& columns = facts.rejects.columns;
  const Datum now = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
  const Relation table = table_open(import.store.table(Table::import_rejects), RowExclusiveLock);
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch.count); ++i) {
    TupleTableSlot* const row = slots[i];
    begin_row(row, table);
    set_column(row, columns[r_import_id], Int64GetDatum(import.counts.import_id));
    set_column(row, columns[r_line_number], batch.lines[i]);
    set_column(row, columns[r_raw_line], batch.raws[i]);
    set_column(row, columns[r_sqlstate], batch.states[i]);
    set_column(row, columns[r_message], batch.messages[i]);
    set_column(row, columns[r_imported_by], by);
    set_column(row, columns[r_rejected_at], now);
    ExecStoreVirtualTuple(row);
  }
  table_multi_insert(table, slots, batch.count, GetCurrentCommandId(true), 0, nullptr);
  insert_index_entries(table, facts.rejects, facts.evaluation,
                       {slots, static_cast<std::size_t>(batch.count)});
  for (int i = 0; i < batch.count; ++i) ExecClearTuple(slots[i]);
  table_close(table, NoLock);
}

void insert_batch(Import& import, RejectBatch& batch, Datum by) {
  // Under the table's lock, so that DDL is seen; a trigger's of this import, too.
  import.store = open_store({{ Table::import_rejects, RowExclusiveLock }});
  const Facts& facts = fast_path_facts(import.store);
  const bool fast = rejects_obstacle(import.store, facts) == nullptr && !facts.rejects.row_by_row;
  if (fast)
    insert_by_direct_access(import, facts, batch, by);
  else
    insert_by_executor(import, batch, by);
  batch.count = 0;
}

}  // namespace

std::string_view kept_raw(std::string_view raw) {
  if (raw.size() <= longest_raw) return raw;
  const int size = static_cast<int>(std::min<std::size_t>(raw.size(), INT_MAX));
  return raw.substr(
      0, static_cast<std::size_t>(pg_mbcliplen(raw.data(), size, static_cast<int>(longest_raw))));
}

void append_csv(StringInfo line, std::string_view field) {
  if (field.find_first_of(",\"\n\r") == std::string_view::npos)
    return appendBinaryStringInfo(line, field.data(), static_cast<int>(field.size()));
  appendStringInfoChar(line, '"');
  for (const char c : field) {
    if (c == '"') appendStringInfoChar(line, c);
    appendStringInfoChar(line, c);
  }
  appendStringInfoChar(line, '"');
}

void begin_rejects(Import& import) {
  const TupleDesc descriptor = CreateTemplateTupleDesc(4);
  TupleDescInitEntry(descriptor, 1, "line_number", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "sqlstate", INT4OID, -1, 0);
  TupleDescInitEntry(descriptor, 3, "message", TEXTOID, -1, 0);
  TupleDescInitEntry(descriptor, 4, "raw_line", TEXTOID, -1, 0);
  AttrNumber key = 1;
  Oid less = Int8LessOperator;
  Oid collation = InvalidOid;
  bool nulls_first = false;
  import.rejects = tuplesort_begin_heap(descriptor, 1, &key, &less, &collation, &nulls_first,
                                        sort_memory, nullptr, TUPLESORT_NONE);
  import.reject_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
}

void raise_first_reject(const Import& import) {
  if (import.first_message == nullptr) return;
  ereport(ERROR, errcode(import.first_sqlstate), errmsg("%s", import.first_message),
          errdetail("Line " INT64_FORMAT " of the import.", import.first_line),
          errhint("SET order_proc.import_on_error = 'skip_row' leaves such lines out and notes "
                  "them in order_store.import_rejects."));
}

void reject_line(Import& import, const Reject& reject) {
  ++import.counts.rejected;
  if (import_on_error == import_abort) {
    // A line before this one may still wait for its customer, or belong to another's order.
    if (!import.loading) {
      finish_reading(import);
      check_orders(import);
      import.loading = false;
    }
    if (import.first_message == nullptr || reject.line < import.first_line) {
      import.first_line = reject.line;
      import.first_sqlstate = reject.sqlstate;
      import.first_message = MemoryContextStrdup(import.memory, reject.message);
    }
    if (!import.loading) raise_first_reject(import);
    return;
  }
  TupleTableSlot* const slot = import.reject_slot;
  ExecClearTuple(slot);
  slot->tts_values[0] = Int64GetDatum(reject.line);
  slot->tts_values[1] = Int32GetDatum(reject.sqlstate);
  slot->tts_values[2] = text_datum(reject.message);
  slot->tts_values[3] = text_datum(kept_raw(reject.raw));
  std::fill_n(slot->tts_isnull, 4, false);
  ExecStoreVirtualTuple(slot);
  tuplesort_puttupleslot(import.rejects, slot);
}

void write_rejects(Import& import) {
  tuplesort_performsort(import.rejects);
  const MemoryContext memory =
      AllocSetContextCreate(import.memory, "order_proc reject batch", ALLOCSET_DEFAULT_SIZES);
  const Datum by = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  auto* const batch =
      static_cast<RejectBatch*>(MemoryContextAllocZero(import.memory, sizeof(RejectBatch)));
  Size bytes = 0;
  while (tuplesort_gettupleslot(import.rejects, true, false, import.reject_slot, nullptr)) {
    CHECK_FOR_INTERRUPTS();
    TupleTableSlot* const slot = import.reject_slot;
    slot_getallattrs(slot);
    const auto at = static_cast<std::size_t>(batch->count++);
    batch->lines[at] = slot->tts_values[0];
    batch->states[at] = text_datum(unpack_sql_state(DatumGetInt32(slot->tts_values[1])));
    batch->messages[at] = datumCopy(slot->tts_values[2], false, -1);
    batch->raws[at] = datumCopy(slot->tts_values[3], false, -1);
    bytes += VARSIZE_ANY(DatumGetPointer(batch->raws[at]));
    if (batch->count == static_cast<int>(rejects_per_insert) || bytes > 1024 * 1024) {
      insert_batch(import, *batch, by);
      MemoryContextReset(memory);
      bytes = 0;
    }
  }
  if (batch->count > 0) insert_batch(import, *batch, by);
  MemoryContextSwitchTo(saved);
  MemoryContextDelete(memory);
  tuplesort_end(import.rejects);
  CommandCounterIncrement();
}

}  // namespace order_proc
