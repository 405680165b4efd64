// fan_out_aggregate: splits a query with aggregates (query_split.hpp), sends one half to the shards
// and runs the other here over their rows, as the caller.
//
// The coordinator's half is planned and run from its tree, with a pointer to the split query as its
// parameter. So the caller needs no right on the row source and on `combine`, and can call neither
// of them with data of his own: a state is trusted by the aggregate that reads it.
#include "fan_out.hpp"
#include "pg/args.hpp"
#include "pg/query.hpp"
#include "pg/record.hpp"
#include "pg/srf.hpp"
#include "pg/user.hpp"
#include "query_split.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

const char* column_list(const List* targets) {
  StringInfoData list;
  initStringInfo(&list);
  const ListCell* cell;
  foreach (cell, targets) {
    const auto* const target = static_cast<TargetEntry*>(lfirst(cell));
    if (target->resjunk) continue;
    Node* const expression = reinterpret_cast<Node*>(target->expr);
    appendStringInfo(&list, "%s%s %s", list.len > 0 ? ", " : "",
                     quote_identifier(target->resname != nullptr ? target->resname : "column"),
                     format_type_with_typemod(exprType(expression), exprTypmod(expression)));
  }
  return list.data;
}

[[noreturn]] void wrong_columns(const List* targets, const char* difference) {
  ereport(
      ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
      errmsg("the column definition list does not match the query"), errdetail("%s", difference),
      errhint("SELECT * FROM order_proc.fan_out_aggregate(...) AS t (%s);", column_list(targets)));
}

/// The caller's column definition list must be the result's columns: nothing is converted.
void check_columns(const List* targets, TupleDesc expected) {
  int number = 0;
  const ListCell* cell;
  foreach (cell, targets) {
    const auto* const target = static_cast<TargetEntry*>(lfirst(cell));
    if (target->resjunk) continue;
    Node* const expression = reinterpret_cast<Node*>(target->expr);
    if (number++ >= expected->natts) continue;
    const FormData_pg_attribute* const column = TupleDescAttr(expected, number - 1);
    if (column->atttypid != exprType(expression) ||
        (column->atttypmod != -1 && column->atttypmod != exprTypmod(expression)))
      wrong_columns(targets, psprintf("Column %d is %s in the list and %s in the query.", number,
                                      format_type_with_typemod(column->atttypid, column->atttypmod),
                                      format_type_with_typemod(exprType(expression),
                                                               exprTypmod(expression))));
  }
  if (number != expected->natts)
    wrong_columns(targets,
                  psprintf("The list has %d columns, the query %d.", expected->natts, number));
}

ParamListInfo as_parameter(const ShardHalf* shard) {
  const ParamListInfo parameters = makeParamList(1);
  // Not PARAM_FLAG_CONST: a constant of type internal in a plan cannot be shown by EXPLAIN.
  parameters->params[0] = {PointerGetDatum(shard), false, 0, INTERNALOID};
  return parameters;
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_fan_out_aggregate);
Datum order_proc_fan_out_aggregate(PG_FUNCTION_ARGS) {
  const char* const text = text_to_cstring(pg::Args(fcinfo).get_text(0, "query").value);
  const TupleDesc expected = pg::expected_columns(fcinfo, "fan_out_aggregate");
  (void)open_store();
  const SplitQuery split = split_query(text, RowSource::inside);
  check_columns(split.coordinator->targetList, expected);
  const pg::ResultSet results(fcinfo);
  pg::run_select(split.coordinator, text, as_parameter(&split.shard), results.receiver());
  return results.done();
}

/// The rows of the shards, for the query that fan_out_aggregate runs.
PG_FUNCTION_INFO_V1(order_proc_partial_rows);
Datum order_proc_partial_rows(PG_FUNCTION_ARGS) {
  const auto* const shard =
      reinterpret_cast<const ShardHalf*>(DatumGetPointer(pg::Args(fcinfo).datum(0, "shard")));
  LOCAL_FCINFO(call, 3);
  InitFunctionCallInfoData(*call, fcinfo->flinfo, 3, InvalidOid, fcinfo->context,
                           fcinfo->resultinfo);
  call->args[0] = {PointerGetDatum(cstring_to_text(shard->text)), false};
  call->args[1] = {0, true};
  call->args[2] = {PointerGetDatum(cstring_to_text("error")), false};
  Datum result = 0;
  // The text was written for this path.
  // As text_of() wrote it, where it is run here.
  const int nest_level = NewGUCNestLevel();
  pg::set_for_nest_level("standard_conforming_strings", "on");
  pg::with_locked_path([&] { result = order_proc_fan_out(call); });
  AtEOXact_GUC(false, nest_level);
  fcinfo->isnull = call->isnull;
  return result;
}

PG_FUNCTION_INFO_V1(order_proc_explain_fan_out_aggregate);
Datum order_proc_explain_fan_out_aggregate(PG_FUNCTION_ARGS) {
  static constexpr std::array<std::string_view, 2> names{"shard_query", "coordinator_query"};
  static pg::RecordType type{names};
  type.prepare(fcinfo);
  const char* const text = text_to_cstring(pg::Args(fcinfo).get_text(0, "query").value);
  (void)open_store();
  const SplitQuery split = split_query(text, RowSource::text);
  const std::array<Datum, 2> values{PointerGetDatum(cstring_to_text(split.shard.text)),
                                    PointerGetDatum(cstring_to_text(text_of(split.coordinator)))};
  const std::array<bool, 2> nulls{};
  return type.form(values.data(), nulls.data());
}

}  // extern "C"

}  // namespace order_proc
