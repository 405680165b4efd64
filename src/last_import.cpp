// last_import(): what the session's last import did. An import that is undone never was, so what
// was told before comes back with ROLLBACK, also to a savepoint.
//
// Memory: static; what may come back is in the transaction's.
#include "import.hpp"
#include "pg/record.hpp"

namespace order_proc {

namespace {

/// What last_import() tells.
struct LastImport {
  ImportCounts counts;
  TimestampTz start;
  TimestampTz end;
};
LastImport last_import;

/// What was told before each import of this transaction, the newest first.
struct Undo {
  Undo* older;
  SubTransactionId subtransaction;
  LastImport before;
};
Undo* undo = nullptr;

void end_of_subtransaction(SubXactEvent event, SubTransactionId ended, SubTransactionId parent,
                           void*) {
  if (event == SUBXACT_EVENT_ABORT_SUB)
    for (; undo != nullptr && undo->subtransaction == ended; undo = undo->older)
      last_import = undo->before;
  if (event == SUBXACT_EVENT_COMMIT_SUB)
    for (Undo* entry = undo; entry != nullptr && entry->subtransaction == ended;
         entry = entry->older)
      entry->subtransaction = parent;
}

void end_of_transaction(XactEvent event, void*) {
  if (event == XACT_EVENT_ABORT)
    for (; undo != nullptr; undo = undo->older) last_import = undo->before;
  if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE) undo = nullptr;
}

}  // namespace

void note_last_import(const Import& import) {
  auto* const entry = static_cast<Undo*>(MemoryContextAlloc(TopTransactionContext, sizeof(Undo)));
  *entry = {undo, GetCurrentSubTransactionId(), last_import};
  undo = entry;
  last_import = {import.counts, import.start, GetCurrentTimestamp()};
}

void watch_last_import() {
  RegisterXactCallback(end_of_transaction, nullptr);
  RegisterSubXactCallback(end_of_subtransaction, nullptr);
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_last_import);
Datum order_proc_last_import(PG_FUNCTION_ARGS) {
  static constexpr std::array<std::string_view, 9> names{"import_id", "lines",      "rejected",
                                                         "orders",    "items",      "known",
                                                         "customers", "started_at", "duration"};
  static pg::RecordType type{names};
  type.prepare(fcinfo);
  const auto& [counts, start, end] = last_import;
  if (counts.import_id == 0) PG_RETURN_NULL();
  const std::array values{
      Int64GetDatum(counts.import_id),
      Int64GetDatum(counts.lines),
      Int64GetDatum(counts.rejected),
      Int64GetDatum(counts.orders),
      Int64GetDatum(counts.items),
      Int64GetDatum(counts.known),
      Int64GetDatum(counts.customers),
      TimestampTzGetDatum(start),
      DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(end), TimestampTzGetDatum(start))};
  constexpr std::array<bool, 9> nulls{};
  return type.form(values.data(), nulls.data());
}

}  // extern "C"

}  // namespace order_proc
