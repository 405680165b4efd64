#include "fast_path_insert.hpp"

#include "pg/compat.hpp"

namespace order_proc {

namespace {

/// The row breaks a CHECK or NOT NULL: the executor's own words for it, with the columns in the
/// DETAIL that the caller gave or may read.
[[noreturn]] void raise_violation(Relation table, const TableFacts& facts, TupleTableSlot* slot) {
  EState* const estate = CreateExecutorState();
  pg::init_range_table(estate,
                       pg::range_table({RelationGetRelid(table), ACL_INSERT, {}, facts.given}));
  ResultRelInfo* const target = makeNode(ResultRelInfo);
  InitResultRelInfo(target, table, 1, nullptr, 0);
  ExecConstraints(target, slot, estate);
  elog(ERROR, "constraints of \"%s\" hold for the executor only", RelationGetRelationName(table));
}

}  // namespace

void check_row(Relation table, const TableFacts& facts, ExprContext* evaluation,
               TupleTableSlot* slot) {
  bool holds = true;
  if (!facts.checks.empty()) {
    evaluation->ecxt_scantuple = slot;
    for (ExprState* const check : facts.checks) holds = holds && ExecCheck(check, evaluation);
    ResetExprContext(evaluation);
  }
  for (int i = 0; facts.checks_nulls && i < facts.descriptor->natts; ++i)
    holds = holds && !(slot->tts_isnull[i] && TupleDescAttr(facts.descriptor, i)->attnotnull);
  if (!holds) raise_violation(table, facts, slot);
}

namespace {

/// Key values of the row in `slot`; false when it is not in a partial index.
bool index_values(const IndexUse& use, ExprContext* evaluation, TupleTableSlot* slot, Datum* values,
                  bool* nulls) {
  evaluation->ecxt_scantuple = slot;
  if (use.predicate != nullptr && !ExecQual(use.predicate, evaluation)) return false;
  int expression = 0;
  for (int i = 0; i < use.info->ii_NumIndexAttrs; ++i) {
    const AttrNumber column = use.info->ii_IndexAttrNumbers[i];
    if (column != 0)
      values[i] = slot_getattr(slot, column, &nulls[i]);
    else
      values[i] = ExecEvalExpr(static_cast<ExprState*>(list_nth(use.expressions, expression++)),
                               evaluation, &nulls[i]);
  }
  return true;
}

}  // namespace

void insert_index_entries(Relation table, const TableFacts& facts, ExprContext* evaluation,
                          std::span<TupleTableSlot*> slots, Oid except) {
  std::array<Datum, INDEX_MAX_KEYS> values;
  std::array<bool, INDEX_MAX_KEYS> nulls;
  for (const IndexUse& use : facts.indexes) {
    if (use.oid == except) continue;
    const Relation index = index_open(use.oid, RowExclusiveLock);
    const IndexUniqueCheck unique = use.info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO;
    for (TupleTableSlot* const slot : slots) {
      if (!index_values(use, evaluation, slot, values.data(), nulls.data())) continue;
      (void)index_insert(index, values.data(), nulls.data(), &slot->tts_tid, table, unique, false,
                         use.info);
    }
    ResetExprContext(evaluation);
    index_close(index, RowExclusiveLock);
  }
}

void begin_row(TupleTableSlot* slot, Relation table) {
  ExecClearTuple(slot);
  std::fill_n(slot->tts_isnull, slot->tts_tupleDescriptor->natts, true);
  slot->tts_tableOid = RelationGetRelid(table);
}

void insert_order_row(Relation table, Facts& facts, const OrderValues& order) {
  TupleTableSlot* const row = facts.order_slot;
  const auto& columns = facts.orders.columns;
  const TimestampTz now = GetCurrentTransactionStartTimestamp();
  begin_row(row, table);
  set_column(row, columns[o_id], Int64GetDatum(order.id));
  set_column(row, columns[o_customer_id], Int64GetDatum(order.customer_id));
  set_column(row, columns[o_status], PointerGetDatum(order.status));
  set_column(row, columns[o_total_amount], order.total_amount);
  if (columns[o_notes] != InvalidAttrNumber)
    set_column(row, columns[o_notes], order.notes.datum(), !order.notes);
  set_column(row, columns[o_customer_name], order.customer_name.datum(), !order.customer_name);
  set_column(row, columns[o_customer_email], order.customer_email.datum(), !order.customer_email);
  set_column(row, columns[o_created_at], TimestampTzGetDatum(order.created_at.value_or(now)));
  set_column(row, columns[o_updated_at], TimestampTzGetDatum(now));
  ExecStoreVirtualTuple(row);
  check_row(table, facts.orders, facts.evaluation, row);
  table_tuple_insert(table, row, GetCurrentCommandId(true), 0, nullptr);
  insert_index_entries(table, facts.orders, facts.evaluation, {&facts.order_slot, 1});
  ExecClearTuple(row);
}

TupleTableSlot* item_slot(Facts& facts, std::size_t i) {
  if (facts.item_slot_count <= static_cast<int>(i)) {
    const MemoryContext saved = MemoryContextSwitchTo(facts.memory);
    facts.item_slots[i] = MakeSingleTupleTableSlot(facts.items.descriptor, &TTSOpsHeapTuple);
    MemoryContextSwitchTo(saved);
    facts.item_slot_count = static_cast<int>(i) + 1;
  }
  return facts.item_slots[i];
}

}  // namespace order_proc
