// What a query may hold to be split, and which rows meet on one shard: those of one customer, so
// those of one order as well. A join is sound when it follows such a key; a subquery when its
// groups do.
#include "query_check.hpp"

#include "partial_aggregates.hpp"
#include "pg/error.hpp"
#include "store.hpp"

namespace order_proc {

namespace {

/// What a column identifies.
enum class Key { none, customer, order };

struct KeyColumn {
  Key key;
  bool nullable;
};

struct KeyName {
  Table table;
  std::string_view column;
  Key key;
};
constexpr std::array keys{
    KeyName{Table::customers, "id", Key::customer},
    KeyName{Table::orders, "customer_id", Key::customer},
    KeyName{Table::orders, "id", Key::order},
    KeyName{Table::order_items, "order_id", Key::order},
    KeyName{Table::order_status_history, "order_id", Key::order},
    KeyName{Table::idempotency_keys, "customer_id", Key::customer},
    KeyName{Table::idempotency_keys, "order_id", Key::order},
};

bool is_sharded(Oid table) {
  const Store& store = open_store();
  return std::any_of(keys.begin(), keys.end(),
                     [&](const KeyName& key) { return store.table(key.table) == table; });
}

bool attribute_is_not_null(Oid table, AttrNumber number) {
  const HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(table), Int16GetDatum(number));
  if (!HeapTupleIsValid(tuple)) return false;
  const bool not_null = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple))->attnotnull;
  ReleaseSysCache(tuple);
  return not_null;
}

/// Tables of this level that an outer join may fill with NULLs.
Bitmapset* filled_with_nulls(Node* node, bool filled) {
  if (node == nullptr) return nullptr;
  if (IsA(node, RangeTblRef))
    return filled ? bms_make_singleton(reinterpret_cast<RangeTblRef*>(node)->rtindex) : nullptr;
  if (IsA(node, FromExpr)) {
    Bitmapset* all = nullptr;
    ListCell* cell;
    foreach (cell, reinterpret_cast<FromExpr*>(node)->fromlist)
      all = bms_join(all, filled_with_nulls(static_cast<Node*>(lfirst(cell)), filled));
    return all;
  }
  const auto* const join = reinterpret_cast<JoinExpr*>(node);
  const bool left = filled || join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL;
  const bool right = filled || join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL;
  return bms_join(filled_with_nulls(join->larg, left), filled_with_nulls(join->rarg, right));
}

KeyColumn key_of(Query* query, Node* expression) {
  if (expression == nullptr || !IsA(expression, Var)) return {Key::none, true};
  const auto* const var = reinterpret_cast<Var*>(expression);
  if (var->varlevelsup != 0 || var->varattno <= 0) return {Key::none, true};
  const RangeTblEntry* const entry = rt_fetch(var->varno, query->rtable);
  const bool filled =
      bms_is_member(var->varno, filled_with_nulls(reinterpret_cast<Node*>(query->jointree), false));
  if (entry->rtekind == RTE_SUBQUERY) {
    const TargetEntry* const column = get_tle_by_resno(entry->subquery->targetList, var->varattno);
    Node* const inner = pg::without_join_aliases(entry->subquery,
                                                 reinterpret_cast<Node*>(copyObject(column->expr)));
    const KeyColumn key = key_of(entry->subquery, inner);
    return {key.key, key.nullable || filled};
  }
  if (entry->rtekind != RTE_RELATION) return {Key::none, true};
  const Store& store = open_store();
  const std::string_view name = get_attname(entry->relid, var->varattno, false);
  for (const KeyName& key : keys)
    if (store.table(key.table) == entry->relid && key.column == name)
      return {key.key, filled || !attribute_is_not_null(entry->relid, var->varattno)};
  return {Key::none, true};
}

// --- joins -----------------------------------------------------------------------------------

/// Parts of FROM, each a set of range table indexes whose rows meet on one shard, and conditions
/// that hold for every row that comes out.
struct Parts {
  List* sets;
  List* conditions;
};

Bitmapset* located(Query* query, Node* node);
void check_entry(RangeTblEntry* entry);

void collect_parts(Query* query, Node* node, Parts* parts);

/// Unites the sets that equalities of keys connect.
void connect(Query* query, Parts* parts, Node* condition) {
  if (condition == nullptr) return;
  ListCell* cell;
  if (IsA(condition, List)) {
    foreach (cell, reinterpret_cast<List*>(condition))
      connect(query, parts, static_cast<Node*>(lfirst(cell)));
    return;
  }
  if (IsA(condition, BoolExpr) && reinterpret_cast<BoolExpr*>(condition)->boolop == AND_EXPR) {
    connect(query, parts, reinterpret_cast<Node*>(reinterpret_cast<BoolExpr*>(condition)->args));
    return;
  }
  if (!IsA(condition, OpExpr)) return;
  const auto* const equality = reinterpret_cast<OpExpr*>(condition);
  if (get_opcode(equality->opno) != F_INT8EQ) return;
  auto* const left = static_cast<Node*>(linitial(equality->args));
  auto* const right = static_cast<Node*>(lsecond(equality->args));
  const Key key = key_of(query, left).key;
  if (key == Key::none || key != key_of(query, right).key) return;
  List* apart = NIL;
  Bitmapset* united = nullptr;
  foreach (cell, parts->sets) {
    auto* const set = static_cast<Bitmapset*>(lfirst(cell));
    if (bms_is_member(reinterpret_cast<Var*>(left)->varno, set) ||
        bms_is_member(reinterpret_cast<Var*>(right)->varno, set))
      united = bms_union(united, set);
    else
      apart = lappend(apart, set);
  }
  if (united != nullptr) parts->sets = lcons(united, apart);
}

const char* name_of(Query* query, const void* set) {
  const int first = bms_next_member(static_cast<const Bitmapset*>(set), -1);
  return rt_fetch(first, query->rtable)->eref->aliasname;
}

Bitmapset* connected(Query* query, Parts* parts) {
  if (parts->sets == NIL)
    cannot_split("a query that reads no table", "Each shard would return its row.",
                 "Run it without fan_out_aggregate.");
  connect(query, parts,
          pg::without_join_aliases(query, reinterpret_cast<Node*>(copyObject(parts->conditions))));
  if (list_length(parts->sets) > 1)
    cannot_split(psprintf("the join of %s and %s", name_of(query, linitial(parts->sets)),
                          name_of(query, lsecond(parts->sets))),
                 "Rows of one customer or one order meet on one shard, others do not.",
                 "Join them on the customer's or the order's id.");
  return static_cast<Bitmapset*>(linitial(parts->sets));
}

/// An outer join keeps rows without a partner: only conditions between its two sides connect them.
void collect_outer_join(Query* query, JoinExpr* join, Parts* parts) {
  Parts sides{list_make2(located(query, join->larg), located(query, join->rarg)),
              list_make1(join->quals)};
  parts->sets = lappend(parts->sets, connected(query, &sides));
}

void collect_parts(Query* query, Node* node, Parts* parts) {
  check_stack_depth();
  if (IsA(node, RangeTblRef)) {
    const int index = reinterpret_cast<RangeTblRef*>(node)->rtindex;
    check_entry(rt_fetch(index, query->rtable));
    parts->sets = lappend(parts->sets, bms_make_singleton(index));
  } else if (IsA(node, FromExpr)) {
    const auto* const from = reinterpret_cast<FromExpr*>(node);
    ListCell* cell;
    foreach (cell, from->fromlist) collect_parts(query, static_cast<Node*>(lfirst(cell)), parts);
    parts->conditions = lappend(parts->conditions, from->quals);
  } else {
    auto* const join = reinterpret_cast<JoinExpr*>(node);
    if (join->jointype != JOIN_INNER) return collect_outer_join(query, join, parts);
    collect_parts(query, join->larg, parts);
    collect_parts(query, join->rarg, parts);
    parts->conditions = lappend(parts->conditions, join->quals);
  }
}

/// All tables below the node, when they are connected.
Bitmapset* located(Query* query, Node* node) {
  Parts parts{};
  collect_parts(query, node, &parts);
  return connected(query, &parts);
}

// --- tables and subqueries ---------------------------------------------------------------------

void check_table(const RangeTblEntry* entry) {
  const char* const name = get_rel_name(entry->relid);
  if (!is_sharded(entry->relid))
    cannot_split(psprintf("a query that reads %s", name),
                 "It is none of the tables that are spread over the shards.",
                 "Read customers, orders, order_items, order_status_history or idempotency_keys.");
  if (entry->tablesample != nullptr)
    cannot_split("TABLESAMPLE", "Each shard would draw a sample of its own.",
                 "Filter with a condition on the rows instead.");
  if (check_enable_rls(entry->relid, InvalidOid, true) == RLS_ENABLED)
    cannot_split(psprintf("a query under the row security of %s", name),
                 "Policies of the coordinator's table apply to you, and shards do not know them.",
                 "Ask as a role that the policies do not apply to.");
}

/// Whether one of the clauses is a key that every row has: then a group lies on one shard.
bool has_key(Query* query, List* clauses) {
  ListCell* cell;
  foreach (cell, clauses) {
    auto* const clause = static_cast<SortGroupClause*>(lfirst(cell));
    const TargetEntry* const column = get_sortgroupclause_tle(clause, query->targetList);
    const KeyColumn key = key_of(
        query, pg::without_join_aliases(query, reinterpret_cast<Node*>(copyObject(column->expr))));
    if (key.key != Key::none && !key.nullable) return true;
  }
  return false;
}

void check_subquery(Query* query, const char* name) {
  const char* const hint = "Group it by the customer's or the order's id.";
  if (query->limitCount != nullptr || query->limitOffset != nullptr)
    cannot_split(psprintf("LIMIT in subquery %s", name), "Each shard would apply it by itself.",
                 "Put LIMIT at the end of the query.");
  check_rows(query);
  const bool grouped = query->groupClause != NIL;
  if ((query->hasAggs || grouped || query->havingQual != nullptr) &&
      !has_key(query, query->groupClause))
    cannot_split(psprintf("subquery %s", name),
                 "Its groups are not those of one customer or one order, and so lie on many "
                 "shards.",
                 hint);
  if (query->distinctClause != NIL && !has_key(query, query->distinctClause))
    cannot_split(psprintf("DISTINCT in subquery %s", name), "Equal rows may lie on several shards.",
                 hint);
}

void check_entry(RangeTblEntry* entry) {
  const char* const name = entry->eref->aliasname;
  if (entry->lateral)
    cannot_split(psprintf("LATERAL %s", name), "Only plain subqueries are split.",
                 "Group a subquery by the customer's or the order's id and join it.");
  switch (entry->rtekind) {
    case RTE_RELATION:
      return check_table(entry);
    case RTE_SUBQUERY:
      return check_subquery(entry->subquery, name);
    case RTE_FUNCTION:
      cannot_split(psprintf("function %s in FROM", name), "Each shard would return its rows.",
                   "Read tables of the store only.");
    case RTE_VALUES:
      cannot_split("VALUES in FROM", "Each shard would return its rows.",
                   "Read tables of the store only.");
    default:
      cannot_split(psprintf("%s in FROM", name), "It is no table of the store.",
                   "Read tables of the store only.");
  }
}

// --- what no level may have --------------------------------------------------------------------

bool refuse_node(Node* node, void* context) {
  if (node == nullptr) return false;
  switch (nodeTag(node)) {
    case T_Query:
      return pg::visit_query(reinterpret_cast<Query*>(node), refuse_node, context);
    case T_SubLink:
      cannot_split("a subquery in an expression", "It would be evaluated on each shard by itself.",
                   "Put it into FROM, grouped by the customer's or the order's id.");
    case T_WindowFunc:
      cannot_split(psprintf("window function %s",
                            format_procedure(reinterpret_cast<WindowFunc*>(node)->winfnoid)),
                   "It needs all rows in one place.",
                   "Apply it to what fan_out_aggregate returns.");
    case T_GroupingFunc:
      cannot_split("GROUPING", "GROUPING SETS, ROLLUP and CUBE are not supported.",
                   "Run a query for each grouping.");
    case T_Var:
      if (reinterpret_cast<Var*>(node)->varattno < 0)
        cannot_split("a system column", "ctid, xmin, tableoid and others differ by shard.",
                     "Use columns of the table.");
      break;
    default:
      break;
  }
  return pg::visit_children(node, refuse_node, context);
}

void check_clauses(const Query* query) {
  if (query->setOperations != nullptr)
    cannot_split("UNION, INTERSECT or EXCEPT", "Only one SELECT is split.",
                 "Run a call for each SELECT.");
  if (query->cteList != NIL)
    cannot_split("WITH", "Only subqueries in FROM are split.", "Put the query into FROM.");
  if (query->groupingSets != NIL)
    cannot_split("GROUPING SETS, ROLLUP or CUBE", "Only plain GROUP BY is split.",
                 "Run a query for each grouping.");
  if (query->rowMarks != NIL)
    cannot_split("FOR UPDATE or FOR SHARE", "Aggregates lock no rows.", "Leave it out.");
  if (query->hasTargetSRFs)
    cannot_split("a set-returning function in the select list",
                 "It would multiply rows on each shard.", "Apply it to the result.");
}

}  // namespace

void cannot_split(const char* what, const char* why, const char* hint) {
  ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
          errmsg("fan_out_aggregate cannot split %s", what), errdetail("%s", why),
          errhint("%s", hint));
}

RawStmt* parse_one_select(const char* text) {
  const List* const statements = pg_parse_query(text);
  if (list_length(statements) != 1)
    ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR),
            errmsg("query must be one statement, not %d", list_length(statements)),
            errhint("Give one SELECT."));
  auto* const statement = static_cast<RawStmt*>(linitial(statements));
  const bool select = IsA(statement->stmt, SelectStmt);
  if (!select || reinterpret_cast<SelectStmt*>(statement->stmt)->intoClause != nullptr)
    cannot_split(select ? "SELECT INTO" : CreateCommandName(statement->stmt),
                 "Only SELECT with aggregates is split.", "Use order_proc.fan_out_exec.");
  return statement;
}

void check_rows(Query* query) {
  check_stack_depth();
  check_clauses(query);
  (void)pg::visit_query(query, refuse_node, nullptr);
  pg::check_permissions(query);
  (void)located(query, reinterpret_cast<Node*>(query->jointree));
}

void check_aggregate(const Aggref* aggregate) {
  const char* const name = format_procedure(aggregate->aggfnoid);
  const char* const hint = "Group a subquery by the customer's or the order's id and aggregate it.";
  const char* const why = obstacle_to_halves(aggregate->aggfnoid);
  if (why != nullptr) cannot_split(name, why, hint);
  if (aggregate->aggdistinct != NIL)
    cannot_split(psprintf("DISTINCT in %s", name), "Equal values may lie on several shards.", hint);
  if (aggregate->aggorder != NIL)
    cannot_split(psprintf("ORDER BY in %s", name), "Rows of several shards have no order.", hint);
  if (get_typtype(aggregate->aggtype) == TYPTYPE_PSEUDO)
    cannot_split(name, "Its result has no type of its own.", hint);
}

}  // namespace order_proc
