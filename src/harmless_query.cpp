// Names are looked up here and used there. PostgreSQL's own objects are the same on both sides; a
// version in which a function became volatile would be the exception, and none did.
#include "harmless_query.hpp"

#include "pg/query.hpp"

extern "C" {
#include "utils/catcache.h"
}

namespace order_proc {

namespace {

constexpr std::array<std::string_view, 5> store_tables{"customers", "orders", "order_items",
                                                       "order_status_history", "idempotency_keys"};

bool is_pinned_and_not_volatile(const HeapTuple tuple) {
  const auto* const function = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  return function->oid < FirstUnpinnedObjectId && function->provolatile != PROVOLATILE_VOLATILE;
}

/// All that have the name, whatever their arguments.
bool functions_are_harmless(const char* name) {
  CatCList* const found = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
  bool harmless = false;
  for (int i = 0; i < found->n_members; ++i) {
    const HeapTuple tuple = &found->members[i]->tuple;
    // Those of other schemas are not seen by this name.
    if (reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->pronamespace != PG_CATALOG_NAMESPACE)
      continue;
    harmless = is_pinned_and_not_volatile(tuple);
    if (!harmless) break;
  }
  ReleaseSysCacheList(found);
  return harmless;
}

/// The last part of a name that is looked up in pg_catalog; null for others.
const char* name_in_catalog(const List* names) {
  if (list_length(names) > 2) return nullptr;
  if (list_length(names) == 2 && std::string_view(strVal(linitial(names))) != "pg_catalog")
    return nullptr;
  return names == NIL ? nullptr : strVal(llast(names));
}

bool is_harmless_table(const RangeVar* table) {
  const std::string_view name = table->relname;
  const std::string_view schema = table->schemaname == nullptr ? "" : table->schemaname;
  if (table->catalogname != nullptr) return false;
  if (schema == "order_store")
    return std::find(store_tables.begin(), store_tables.end(), name) != store_tables.end();
  return (schema.empty() || schema == "pg_catalog") &&
         OidIsValid(get_relname_relid(table->relname, PG_CATALOG_NAMESPACE));
}

/// Others may be of pg_temp.
bool is_harmless_type(const TypeName* type) {
  const char* const name = name_in_catalog(type->names);
  return name != nullptr && !type->pct_type &&
         SearchSysCacheExists2(TYPENAMENSP, CStringGetDatum(name),
                               ObjectIdGetDatum(PG_CATALOG_NAMESPACE));
}

/// True for a node that makes the query one to be fenced.
bool may_harm(Node* node, void* context) {
  if (node == nullptr) return false;
  switch (nodeTag(node)) {
    case T_FuncCall: {
      const char* const name = name_in_catalog(reinterpret_cast<FuncCall*>(node)->funcname);
      if (name == nullptr || !functions_are_harmless(name)) return true;
      break;
    }
    case T_RangeVar:
      return !is_harmless_table(reinterpret_cast<RangeVar*>(node));
    case T_TypeName:
      if (!is_harmless_type(reinterpret_cast<TypeName*>(node))) return true;
      break;
    case T_A_Expr:
      if (name_in_catalog(reinterpret_cast<A_Expr*>(node)->name) == nullptr) return true;
      break;
    case T_SortBy: {
      const List* const with = reinterpret_cast<SortBy*>(node)->useOp;
      if (with != NIL && name_in_catalog(with) == nullptr) return true;
      break;
    }
    case T_SubLink: {
      const List* const with = reinterpret_cast<SubLink*>(node)->operName;
      if (with != NIL && name_in_catalog(with) == nullptr) return true;
      break;
    }
    case T_SelectStmt: {
      const auto* const select = reinterpret_cast<SelectStmt*>(node);
      if (select->withClause != nullptr || select->lockingClause != NIL ||
          select->intoClause != nullptr)
        return true;
      break;
    }
    case T_RangeTableSample:
    case T_RangeTableFunc:  // whose types are not among the children
      return true;
    default:
      break;
  }
  check_stack_depth();
  return pg::visit_raw_children(node, may_harm, context);
}

}  // namespace

bool is_harmless(Node* query) {
  return IsA(query, SelectStmt) && !may_harm(query, nullptr);
}

}  // namespace order_proc
