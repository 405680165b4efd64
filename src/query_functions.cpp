// Functions in a query that is to be split: volatile ones are refused, stable ones evaluated once.
#include "query_check.hpp"

namespace order_proc {

namespace {

/// Stable functions of PostgreSQL's own whose result follows from arguments and settings alone, and
/// those settings (TimeZone, DateStyle, lc_*, ...) are the same on the shards.
constexpr std::array<std::string_view, 43> of_settings_only{
    "anytextcat",
    "array_in",
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "convert",
    "convert_from",
    "convert_to",
    "date",
    "date_in",
    "date_part",
    "date_trunc",
    "domain_in",
    "enum_first",
    "enum_in",
    "enum_last",
    "enum_range",
    "extract",
    "format",
    "interval_in",
    "interval_pl_timestamptz",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "money",
    "numeric",
    "quote_literal",
    "quote_nullable",
    "record_in",
    "row_to_json",
    "textanycat",
    "time",
    "timestamp",
    "timestamptz",
    "timestamptz_mi_interval",
    "timestamptz_pl_interval",
    "timetz",
    "timezone",
    "to_char",
    "to_date",
    "to_number",
};
constexpr std::array<std::string_view, 12> more_of_settings_only{
    "cash_in",         "cash_out", "range_in", "time_in",      "timestamp_in", "timestamptz_in",
    "timestamptz_out", "to_json",  "to_jsonb", "to_timestamp", "timetz_in",    "multirange_in"};

bool contains(std::span<const std::string_view> sorted, std::string_view name) {
  return std::find(sorted.begin(), sorted.end(), name) != sorted.end();
}

/// date_lt_timestamptz and its like.
bool compares_with_timestamptz(std::string_view name) {
  return (name.starts_with("date_") || name.starts_with("timestamp_") ||
          name.starts_with("timestamptz_")) &&
         (name.ends_with("_timestamptz") || name.ends_with("_date") ||
          name.ends_with("_timestamp"));
}

bool names_objects(Oid type) {
  const Oid element = get_element_type(type);
  switch (OidIsValid(element) ? element : type) {
    case REGPROCOID:
    case REGPROCEDUREOID:
    case REGOPEROID:
    case REGOPERATOROID:
    case REGCLASSOID:
    case REGCOLLATIONOID:
    case REGTYPEOID:
    case REGCONFIGOID:
    case REGDICTIONARYOID:
    case REGNAMESPACEOID:
    case REGROLEOID:
      return true;
    default:
      return false;
  }
}

/// Whether a stable function means the same on every server that has our settings.
bool means_the_same(Oid function) {
  if (function >= FirstUnpinnedObjectId || names_objects(get_func_rettype(function))) return false;
  const char* const name = get_func_name(function);
  // Output functions are stable for the same reasons as input functions.
  return contains(of_settings_only, name) || contains(more_of_settings_only, name) ||
         compares_with_timestamptz(name) || std::string_view(name).ends_with("out");
}

bool is_volatile(Oid function, void* found) {
  if (func_volatile(function) != PROVOLATILE_VOLATILE) return false;
  *static_cast<Oid*>(found) = function;
  return true;
}

bool is_local(Oid function, void* found) {
  if (func_volatile(function) != PROVOLATILE_STABLE || means_the_same(function)) return false;
  *static_cast<Oid*>(found) = function;
  return true;
}

/// Whether the node itself, not what is below it, is to be evaluated here.
bool is_evaluated_here(Node* node, Oid* function) {
  *function = InvalidOid;
  if (IsA(node, SQLValueFunction)) return true;
  if (IsA(node, CoerceViaIO)) {
    const auto* const coercion = reinterpret_cast<CoerceViaIO*>(node);
    if (names_objects(coercion->resulttype) ||
        names_objects(exprType(reinterpret_cast<Node*>(coercion->arg)))) {
      *function = F_REGCLASSIN;
      return true;
    }
  }
  return check_functions_in_node(node, is_local, function);
}

bool refuse_volatile(Node* node, void* context) {
  if (node == nullptr) return false;
  if (IsA(node, Query))
    return pg::visit_query(reinterpret_cast<Query*>(node), refuse_volatile, context);
  Oid function = InvalidOid;
  if (IsA(node, NextValueExpr) || check_functions_in_node(node, is_volatile, &function))
    cannot_split(psprintf("volatile function %s",
                          OidIsValid(function) ? format_procedure(function) : "nextval"),
                 "It would give other values on each shard.",
                 "Compute its value first and put it into the query.");
  return pg::visit_children(node, refuse_volatile, context);
}

/// Whether the expression needs anything that is not there before the query runs.
bool depends_on_rows(Node* node, void* context) {
  if (node == nullptr) return false;
  switch (nodeTag(node)) {
    case T_Var:
    case T_Param:
    case T_Aggref:
    case T_GroupingFunc:
    case T_WindowFunc:
    case T_SubLink:
    case T_CaseTestExpr:
    case T_CoerceToDomainValue:
    case T_SetToDefault:
    case T_Query:
      return true;
    case T_FuncExpr:
      if (reinterpret_cast<FuncExpr*>(node)->funcretset) return true;
      break;
    default:
      break;
  }
  return pg::visit_children(node, depends_on_rows, context);
}

Node* fold(Node* node, void* context) {
  if (node == nullptr) return nullptr;
  if (IsA(node, Query))
    return reinterpret_cast<Node*>(pg::change_query(reinterpret_cast<Query*>(node), fold, context));
  Node* const changed = pg::change_children(node, fold, context);
  Oid function;
  // What has no text, such as a row of no named type, stays.
  if (!is_evaluated_here(changed, &function) || depends_on_rows(changed, nullptr) ||
      get_typtype(exprType(changed)) == TYPTYPE_PSEUDO)
    return changed;
  // Before evaluate_expr, so that arguments by name or default stand in their places.
  Node* const planned = eval_const_expressions(nullptr, changed);
  if (IsA(planned, Const)) return planned;
  return reinterpret_cast<Node*>(evaluate_expr(reinterpret_cast<Expr*>(planned), exprType(changed),
                                               exprTypmod(changed), exprCollation(changed)));
}

bool refuse_local(Node* node, void* context) {
  if (node == nullptr) return false;
  if (IsA(node, Query))
    return pg::visit_query(reinterpret_cast<Query*>(node), refuse_local, context);
  Oid function;
  // Arguments of our own partial are constants of type regprocedure.
  if (!IsA(node, Const) && is_evaluated_here(node, &function))
    cannot_split(psprintf("stable function %s with values of rows",
                          OidIsValid(function) ? format_procedure(function) : "of the session"),
                 "Each shard would evaluate it with its own catalog and data.",
                 "Declare it IMMUTABLE if it is, or give it constants only.");
  return pg::visit_children(node, refuse_local, context);
}

}  // namespace

Query* with_stable_values(Query* query) {
  (void)pg::visit_query(query, refuse_volatile, nullptr);
  return pg::change_query(query, fold, nullptr);
}

void check_shard_functions(Query* query) {
  (void)pg::visit_query(query, refuse_local, nullptr);
}

}  // namespace order_proc
