// Names of customers: splitting and joining, and the trigger that keeps both forms in step at
// layout 1.3.
#include "names.hpp"

#include "core/name.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/trigger.hpp"

namespace order_proc {

namespace {

text* to_text(std::string_view value) {
  return cstring_to_text_with_len(value.data(), static_cast<int>(value.size()));
}

core::NameParts split(pg::Text name) {
  return pg::core_call(core::split_name, name.view());
}

}  // namespace

pg::Text full_name(pg::Text first, pg::Text last) {
  if (!first) return last;
  if (!last) return first;
  const std::string_view head = first.view();
  const std::string_view tail = last.view();
  const Size size = VARHDRSZ + head.size() + 1 + tail.size();
  auto* const joined = static_cast<text*>(palloc(size));
  SET_VARSIZE(joined, size);
  char* at = std::copy(head.begin(), head.end(), VARDATA(joined));
  *at++ = ' ';
  std::copy(tail.begin(), tail.end(), at);
  return {joined};
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_first_name);
Datum order_proc_first_name(PG_FUNCTION_ARGS) {
  PG_RETURN_TEXT_P(to_text(split(pg::Args(fcinfo).get_text(0, "name")).first));
}

PG_FUNCTION_INFO_V1(order_proc_last_name);
Datum order_proc_last_name(PG_FUNCTION_ARGS) {
  const auto last = split(pg::Args(fcinfo).get_text(0, "name")).last;
  if (!last) PG_RETURN_NULL();
  PG_RETURN_TEXT_P(to_text(*last));
}

PG_FUNCTION_INFO_V1(order_proc_full_name);
Datum order_proc_full_name(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const pg::Text name = full_name(args.find_text(0), args.find_text(1));
  if (!name) PG_RETURN_NULL();
  PG_RETURN_TEXT_P(name.value);
}

}  // extern "C"

namespace {

/// A row of customers as the trigger sees it.
struct NameRow {
  pg::Text name;
  pg::Text first;
  pg::Text last;
};

struct NameColumns {
  int name;
  int first;
  int last;
};

pg::Text column_text(HeapTuple row, TupleDesc descriptor, int column) {
  bool null;
  const Datum value = heap_getattr(row, column, descriptor, &null);
  return null ? pg::Text{} : pg::Text{DatumGetTextPP(value)};
}

NameRow names_in(HeapTuple row, TupleDesc descriptor, const NameColumns& columns) {
  return {column_text(row, descriptor, columns.name), column_text(row, descriptor, columns.first),
          column_text(row, descriptor, columns.last)};
}

bool same(pg::Text a, pg::Text b) {
  return a ? b && a.view() == b.view() : !b;
}

/// The parts of a row before the change: of one that is not backfilled, those of its name.
NameRow with_parts(const NameRow& row) {
  if (row.first || row.last || !row.name) return row;
  const auto [first, last] = split(row.name);
  return {row.name, {to_text(first)}, last ? pg::Text{to_text(*last)} : pg::Text{}};
}

/// The form that was written decides; the parts win when both were. A name that the parts give
/// already leaves them as they are: nobody knows better where to split it.
NameRow in_step(const NameRow& written, const NameRow& before) {
  const bool first_written = !same(written.first, before.first);
  const bool last_written = !same(written.last, before.last);
  if (first_written || last_written) {
    const NameRow known = with_parts(before);
    const pg::Text first = first_written ? written.first : known.first;
    const pg::Text last = last_written ? written.last : known.last;
    return {full_name(first, last), first, last};
  }
  const pg::Text joined = full_name(written.first, written.last);
  if (same(written.name, joined)) return written;
  if (same(written.name, before.name) && joined)
    return written.name ? written : NameRow{joined, written.first, written.last};
  return with_parts({written.name, {}, {}});
}

NameColumns name_columns(const TriggerData* trigger) {
  const TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
  const NameColumns columns{SPI_fnumber(descriptor, "name"), SPI_fnumber(descriptor, "first_name"),
                            SPI_fnumber(descriptor, "last_name")};
  for (const int column : {columns.name, columns.first, columns.last})
    if (column <= 0 || getBaseType(SPI_gettypeid(descriptor, column)) != TEXTOID)
      ereport(ERROR, errcode(pg::store_mismatch),
              errmsg("table \"%s\" does not have the text columns name, first_name and last_name",
                     RelationGetRelationName(trigger->tg_relation)),
              errhint("DROP TRIGGER %s ON %s;", trigger->tg_trigger->tgname,
                      quote_qualified_identifier(
                          get_namespace_name(RelationGetNamespace(trigger->tg_relation)),
                          RelationGetRelationName(trigger->tg_relation))));
  return columns;
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_sync_customer_name);
Datum order_proc_sync_customer_name(PG_FUNCTION_ARGS) {
  const TriggerData* const trigger = pg::trigger_data(fcinfo, "sync_customer_name");
  const bool update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
  pg::require_trigger(TRIGGER_FIRED_BEFORE(trigger->tg_event) &&
                          TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
                          (update || TRIGGER_FIRED_BY_INSERT(trigger->tg_event)),
                      "sync_customer_name", "BEFORE INSERT OR UPDATE FOR EACH ROW");
  const NameColumns columns = name_columns(trigger);
  const TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
  const HeapTuple row = update ? trigger->tg_newtuple : trigger->tg_trigtuple;
  const NameRow written = names_in(row, descriptor, columns);
  NameRow before;
  if (update) before = names_in(trigger->tg_trigtuple, descriptor, columns);
  const NameRow names = in_step(written, before);
  std::array<int, 3> numbers{columns.name, columns.first, columns.last};
  std::array<Datum, 3> values{names.name.datum(), names.first.datum(), names.last.datum()};
  std::array<bool, 3> nulls{!names.name, !names.first, !names.last};
  return PointerGetDatum(
      heap_modify_tuple_by_cols(row, descriptor, 3, numbers.data(), values.data(), nulls.data()));
}

}  // extern "C"

}  // namespace order_proc
