// Query trees: walking, changing, analysing, running them, where the server versions differ.
#pragma once

#include "pg/compat.hpp"

namespace order_proc::pg {

using ExpressionMutator = Node* (*)(Node* node, void* context);

inline Node* change_children(Node* node, ExpressionMutator change, void* context) {
#if PG_VERSION_NUM >= 160000
  return expression_tree_mutator(node, change, context);
#else
  return expression_tree_mutator(
      node, reinterpret_cast<Node* (*)()>(reinterpret_cast<void (*)()>(change)), context);
#endif
}

/// Calls `visit` for each child of what the parser made of a SELECT before it looked up names.
inline bool visit_raw_children(Node* node, ExpressionVisitor visit, void* context) {
#if PG_VERSION_NUM >= 160000
  return raw_expression_tree_walker(node, visit, context);
#else
  return raw_expression_tree_walker(
      node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(visit)), context);
#endif
}

/// Visits the expressions of a query and its subqueries in FROM.
inline bool visit_query(Query* query, ExpressionVisitor visit, void* context) {
#if PG_VERSION_NUM >= 160000
  return query_tree_walker(query, visit, context, 0);
#else
  return query_tree_walker(query, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(visit)),
                           context, 0);
#endif
}

/// A copy of the query with its expressions, those of its subqueries included, changed.
inline Query* change_query(Query* query, ExpressionMutator change, void* context) {
#if PG_VERSION_NUM >= 160000
  return query_tree_mutator(query, change, context, 0);
#else
  return query_tree_mutator(
      query, reinterpret_cast<Node* (*)()>(reinterpret_cast<void (*)()>(change)), context, 0);
#endif
}

/// Columns of joins replaced by those of the tables.
inline Node* without_join_aliases(Query* query, Node* expression) {
#if PG_VERSION_NUM >= 160000
  return flatten_join_alias_vars(nullptr, query, expression);
#else
  return flatten_join_alias_vars(query, expression);
#endif
}

/// What the parser makes of a statement without parameters, names resolved by search_path.
inline Query* analyze(RawStmt* statement, const char* text) {
  Query* const query = parse_analyze_fixedparams(statement, text, nullptr, 0, nullptr);
#if PG_VERSION_NUM >= 180000
  if (query->hasGroupRTE) {
    query->targetList = reinterpret_cast<List*>(
        flatten_group_exprs(nullptr, query, reinterpret_cast<Node*>(query->targetList)));
    query->havingQual = flatten_group_exprs(nullptr, query, query->havingQual);
    query->hasGroupRTE = false;
  }
#endif
  return query;
}

/// Raises 42501 unless the caller may read what this level of the query reads.
inline void check_permissions(Query* query) {
#if PG_VERSION_NUM >= 160000
  (void)ExecCheckPermissions(query->rtable, query->rteperminfos, true);
#else
  (void)ExecCheckRTPerms(query->rtable, true);
#endif
}

inline bool may_execute(Oid function, Oid role) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
  return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

/// Plans and runs an analysed SELECT with the active snapshot. Not in parallel: parameters may be
/// pointers of this process.
inline void run_select(Query* query, const char* text, ParamListInfo parameters,
                       DestReceiver* receiver) {
  PlannedStmt* const plan = pg_plan_query(query, text, 0, parameters);
  QueryDesc* const description = CreateQueryDesc(plan, text, GetActiveSnapshot(), InvalidSnapshot,
                                                 receiver, parameters, nullptr, 0);
  ExecutorStart(description, 0);
#if PG_VERSION_NUM >= 180000
  ExecutorRun(description, ForwardScanDirection, 0);
#else
  ExecutorRun(description, ForwardScanDirection, 0, true);
#endif
  ExecutorFinish(description);
  ExecutorEnd(description);
  FreeQueryDesc(description);
}

}  // namespace order_proc::pg
