// Functions in a query that is to be split: volatile ones are refused, stable ones evaluated once.
#include "query_check.hpp"

extern "C" {
#include "utils/float.h"
}

namespace order_proc {

namespace {

/// Stable functions of PostgreSQL's own whose result follows from arguments and settings alone, and
/// those settings (TimeZone, the order of DateStyle, lc_*, ...) are the same on the shards. What
/// writes values by other settings is refused under those: is_text_of_shard().
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

/// Functions that give texts of values, as their types write them.
constexpr std::array<std::string_view, 16> writing{"anytextcat",        "array_to_json",
                                                   "array_to_string",   "concat",
                                                   "concat_ws",         "format",
                                                   "json_build_array",  "json_build_object",
                                                   "jsonb_build_array", "jsonb_build_object",
                                                   "quote_literal",     "quote_nullable",
                                                   "row_to_json",       "textanycat",
                                                   "to_json",           "to_jsonb"};

/// The caller's settings by which values are written otherwise than on the shards.
bool other_dates() {
  return DateStyle != USE_ISO_DATES;
}
/// From 1 on all are the same.
bool other_floats() {
  return extra_float_digits < 1;
}

/// Whether the type's output differs between the shards and here.
bool is_written_otherwise(Oid type) {
  const Oid base = getBaseType(type);
  if (base == UNKNOWNOID || base == CSTRINGOID) return false;
  const Oid element = get_element_type(base);
  if (OidIsValid(element)) return is_written_otherwise(element);
  if (base == DATEOID || base == TIMESTAMPOID || base == TIMESTAMPTZOID) return other_dates();
  if (base == FLOAT4OID || base == FLOAT8OID) return other_floats();
  char category;
  bool preferred;
  get_type_category_preferred(base, &category, &preferred);
  if (category == TYPCATEGORY_GEOMETRIC) return other_floats();
  if (get_typtype(base) == TYPTYPE_ENUM) return false;
  // Of others it is not known what they hold.
  return get_typtype(base) != TYPTYPE_BASE || base >= FirstUnpinnedObjectId;
}

bool has_writing_function(Oid function, void*) {
  const char* const name = get_func_name(function);
  return function < FirstUnpinnedObjectId && func_volatile(function) == PROVOLATILE_STABLE &&
         (contains(writing, name) || std::string_view(name).ends_with("out"));
}

bool takes_written_otherwise(Node* node, void*) {
  return node != nullptr && is_written_otherwise(exprType(node));
}

/// Whether the node itself gives a text that would be another one on the shards.
bool is_text_of_shard(Node* node) {
  if (!other_dates() && !other_floats()) return false;
  if (IsA(node, CoerceViaIO))
    return is_written_otherwise(
        exprType(reinterpret_cast<Node*>(reinterpret_cast<CoerceViaIO*>(node)->arg)));
  if (!IsA(node, FuncExpr) && !IsA(node, OpExpr)) return false;
  return check_functions_in_node(node, has_writing_function, nullptr) &&
         pg::visit_children(node, takes_written_otherwise, nullptr);
}

void refuse_text(Node* node) {
  Oid function = InvalidOid;
  if (IsA(node, FuncExpr)) function = reinterpret_cast<FuncExpr*>(node)->funcid;
  if (IsA(node, OpExpr)) function = get_opcode(reinterpret_cast<OpExpr*>(node)->opno);
  const char* const what = OidIsValid(function)
                               ? format_procedure(function)
                               : psprintf("the cast of %s to %s",
                                          format_type_be(exprType(reinterpret_cast<Node*>(
                                              reinterpret_cast<CoerceViaIO*>(node)->arg))),
                                          format_type_be(exprType(node)));
  if (other_dates())
    cannot_split(psprintf("%s with DateStyle %s", what, GetConfigOption("DateStyle", false, false)),
                 "Shards write dates in the style ISO.", "SET datestyle = 'ISO'; or use to_char.");
  cannot_split(psprintf("%s with extra_float_digits %d", what, extra_float_digits),
               "Shards write all digits of a float.", "SET extra_float_digits = 1;");
}

/// Input functions: 'now' and its like are the clock's.
bool is_input(Oid function, void*) {
  return func_volatile(function) == PROVOLATILE_STABLE &&
         std::string_view(get_func_name(function)).ends_with("_in");
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
  const bool here = is_evaluated_here(changed, &function) || is_text_of_shard(changed) ||
                    check_functions_in_node(changed, is_input, nullptr);
  if (!here || depends_on_rows(changed, nullptr) ||
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
  if (is_text_of_shard(node)) refuse_text(node);
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
