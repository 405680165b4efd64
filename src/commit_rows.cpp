#include "commit_rows.hpp"

#include "pg/compat.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

/// commit_log has one more from layout 1.8 on, NULL at first.
constexpr int most_columns = 4;

bool is_column(TupleDesc descriptor, int at, Oid type) {
  return TupleDescAttr(descriptor, at)->atttypid == type &&
         !TupleDescAttr(descriptor, at)->attisdropped;
}

bool has_columns(TupleDesc descriptor, Oid value_type) {
  const int count = descriptor->natts;
  return count >= 3 && count <= most_columns && is_column(descriptor, 0, TEXTOID) &&
         is_column(descriptor, 1, value_type) && is_column(descriptor, 2, TIMESTAMPTZOID) &&
         (count < most_columns || !TupleDescAttr(descriptor, 3)->attnotnull);
}

/// Whether an insert is a row and its primary key, and nothing else.
bool is_plain(Relation table, Oid value_type) {
  const TupleConstr* const constraints = table->rd_att->constr;
  if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relam != HEAP_TABLE_AM_OID ||
      table->trigdesc != nullptr || table->rd_rules != nullptr ||
      !has_columns(table->rd_att, value_type) ||
      (constraints != nullptr && (constraints->num_check > 0 || constraints->has_generated_stored)))
    return false;
  List* const indexes = RelationGetIndexList(table);
  const bool plain =
      list_length(indexes) == 1 && linitial_oid(indexes) == pg::primary_key_index(table);
  list_free(indexes);
  return plain;
}

void insert_directly(Relation table, Datum transaction, Datum value) {
  PreventCommandIfReadOnly("INSERT");
  const std::array<Datum, most_columns> values{
      transaction, value, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()), 0};
  const std::array<bool, most_columns> nulls{false, false, false, true};
  HeapTuple const row = heap_form_tuple(table->rd_att, const_cast<Datum*>(values.data()),
                                        const_cast<bool*>(nulls.data()));
  CatalogTupleInsert(table, row);
  CommandCounterIncrement();
}

}  // namespace

void insert_commit_row(const Store& store, CommitRows& rows, std::string_view transaction,
                       pg::Value value) {
  const Datum key = PointerGetDatum(
      cstring_to_text_with_len(transaction.data(), static_cast<int>(transaction.size())));
  const Relation table = open_table(store.table(rows.table), RowExclusiveLock);
  if (is_plain(table, rows.value_type)) {
    insert_directly(table, key, value.datum);
  } else {
    PushActiveSnapshot(GetTransactionSnapshot());
    pg::with_spi([&] {
      pg::as_user(table->rd_rel->relowner, [&] { rows.insert.run(0, {pg::Value(key), value}); });
    });
    PopActiveSnapshot();
  }
  table_close(table, NoLock);
}

}  // namespace order_proc
