// The two halves of a query with aggregates (see query_split.hpp). The shard's half keeps FROM and
// WHERE and returns a row for each group: the groups' columns g1, g2, ... and a state a1, a2, ...
// for each aggregate, avg being two of them. The coordinator's half keeps everything else, over
// those columns.
#include "query_split.hpp"

#include "pg/user.hpp"
#include "query_averages.hpp"
#include "query_check.hpp"
#include "query_nodes.hpp"

namespace order_proc {

namespace {

struct Split {
  RowSource source;
  Query* original;
  List* groups;      ///< TargetEntry: expressions of the shards' GROUP BY
  List* clauses;     ///< SortGroupClause, of the same
  List* aggregates;  ///< Aggref, no two equal
  List* states;      ///< those of them whose states the shards compute, no two with the same
  List* additional;  ///< TargetEntry of the coordinator: groups that GROUP BY implies
};

// --- the shard's half --------------------------------------------------------------------------

/// Whether a sum of the shards' results is the result: then they travel as they are.
bool adds_up(const Aggref* aggregate) {
  return aggregate->aggfnoid == F_SUM_NUMERIC || aggregate->aggfnoid == F_SUM_INT8;
}

Oid type_of_state(const Aggref* aggregate) {
  return adds_up(aggregate) ? aggregate->aggtype : BYTEAOID;
}

/// The state of the aggregate: order_proc.partial in its place, which sees each row; where its
/// result is the state, or adds up, itself, which may run in parallel or take an index. FILTER
/// stays.
Expr* state_of(const Aggref* aggregate) {
  if (adds_up(aggregate))
    return reinterpret_cast<Expr*>(copyObject(const_cast<Aggref*>(aggregate)));
  // Version 1.8 has no partial_result; shards are never behind their coordinator.
  const Oid result_function =
      result_is_state(aggregate->aggfnoid)
          ? our_function("partial_result", {REGPROCEDUREOID, REGTYPEARRAYOID, ANYELEMENTOID}, true)
          : InvalidOid;
  if (OidIsValid(result_function))
    return reinterpret_cast<Expr*>(
        makeFuncExpr(result_function, BYTEAOID,
                     list_make3(procedure_constant(aggregate->aggfnoid), types_constant(aggregate),
                                copyObject(const_cast<Aggref*>(aggregate))),
                     InvalidOid, aggregate->inputcollid, COERCE_EXPLICIT_CALL));
  List* const arguments = lcons(procedure_constant(aggregate->aggfnoid),
                                expressions_of(static_cast<List*>(copyObject(aggregate->args))));
  const Oid function = list_length(arguments) == 1
                           ? our_function("partial", {REGPROCEDUREOID})
                           : our_function("partial", {REGPROCEDUREOID, ANYOID});
  Aggref* const call = aggregate_call(function, arguments, BYTEAOID);
  call->aggtranstype = INTERNALOID;
  call->inputcollid = aggregate->inputcollid;
  call->aggfilter = static_cast<Expr*>(copyObject(aggregate->aggfilter));
  return reinterpret_cast<Expr*>(call);
}

Query* shard_query(const Split& split) {
  Query* const query = static_cast<Query*>(copyObject(split.original));
  query->havingQual = nullptr;
  query->sortClause = query->distinctClause = NIL;
  query->hasDistinctOn = false;
  query->limitCount = query->limitOffset = nullptr;
  query->limitOption = LIMIT_OPTION_COUNT;
  query->constraintDeps = NIL;
  query->targetList = NIL;
  query->groupClause = static_cast<List*>(copyObject(split.clauses));
  query->hasAggs = split.states != NIL;
  AttrNumber number = 0;
  ListCell* cell;
  foreach (cell, split.groups) {
    TargetEntry* const group =
        static_cast<TargetEntry*>(copyObject(static_cast<TargetEntry*>(lfirst(cell))));
    group->resno = ++number;
    group->resjunk = false;
    group->resname = psprintf("g%d", number);
    query->targetList = lappend(query->targetList, group);
  }
  foreach (cell, split.states) {
    ++number;
    query->targetList =
        lappend(query->targetList,
                makeTargetEntry(state_of(static_cast<Aggref*>(lfirst(cell))), number,
                                psprintf("a%d", number - list_length(split.groups)), false));
  }
  check_shard_functions(query);
  return query;
}

// --- the coordinator's half --------------------------------------------------------------------

AggregateCall call_of(const Aggref* aggregate) {
  const auto arguments = static_cast<std::size_t>(list_length(aggregate->aggargtypes));
  auto* const types = static_cast<Oid*>(palloc(sizeof(Oid) * (arguments + 1)));
  for (std::size_t i = 0; i < arguments; ++i)
    types[i] = list_nth_oid(aggregate->aggargtypes, static_cast<int>(i));
  return {aggregate->aggfnoid, {types, arguments}, aggregate->inputcollid};
}

/// Whether both go through the same states: of the same rows, by the same functions.
bool share_state(const Aggref* one, const Aggref* other) {
  if (!equal(one->args, other->args) || !equal(one->aggfilter, other->aggfilter) ||
      !equal(one->aggargtypes, other->aggargtypes))
    return false;
  if (adds_up(one) || adds_up(other)) return one->aggfnoid == other->aggfnoid;
  return has_same_states(call_of(one), call_of(other));
}

/// Where the state of an aggregate is among the shards' columns a1, a2, ..., counted from 0; -1
/// when it has yet to be added.
int find_state(const Split& split, const Aggref* aggregate) {
  int number = 0;
  ListCell* cell;
  foreach (cell, split.states) {
    if (share_state(static_cast<Aggref*>(lfirst(cell)), aggregate)) return number;
    ++number;
  }
  return -1;
}

/// order_proc.combine in place of aggregate `number`, counted from 0, or the sum of what adds up.
Node* combine_call(const Split& split, const Aggref* aggregate, int number) {
  const int column = list_length(split.groups) + find_state(split, aggregate) + 1;
  Node* const state = reinterpret_cast<Node*>(
      makeVar(1, static_cast<AttrNumber>(column), type_of_state(aggregate), -1, InvalidOid, 0));
  if (adds_up(aggregate))
    return reinterpret_cast<Node*>(aggregate_call(F_SUM_NUMERIC, list_make1(state), NUMERICOID));
  const bool as_text = split.source == RowSource::text;
  List* const arguments =
      as_text ? list_make4(procedure_constant(aggregate->aggfnoid), types_constant(aggregate),
                           state, result_hint(aggregate))
              : list_make4(parameter(), constant(INT4OID, Int32GetDatum(number), 4, true), state,
                           result_hint(aggregate));
  const Oid function =
      as_text ? our_function("combine", {REGPROCEDUREOID, REGTYPEARRAYOID, BYTEAOID, ANYELEMENTOID})
              : our_function("combine", {INTERNALOID, INT4OID, BYTEAOID, ANYELEMENTOID});
  Aggref* const call = aggregate_call(function, arguments, aggregate->aggtype);
  call->aggtranstype = INTERNALOID;
  call->aggcollid = aggregate->aggcollid;
  call->inputcollid = aggregate->inputcollid;
  return reinterpret_cast<Node*>(call);
}

Node* group_column(const Split& split, int number) {
  const auto* const group = static_cast<TargetEntry*>(list_nth(split.groups, number));
  Node* const expression = reinterpret_cast<Node*>(group->expr);
  return reinterpret_cast<Node*>(makeVar(1, static_cast<AttrNumber>(number + 1),
                                         exprType(expression), exprTypmod(expression),
                                         exprCollation(expression), 0));
}

/// A column that GROUP BY of a primary key implies becomes a group of its own.
void add_group(Split* split, Node* expression) {
  if (reinterpret_cast<Var*>(expression)->varattno == 0)
    cannot_split("a whole row in the result", "Its type is that of a table.", "Name its columns.");
  Oid less;
  Oid equal_operator;
  bool hashable;
  get_sort_group_operators(exprType(expression), false, false, false, &less, &equal_operator,
                           nullptr, &hashable);
  if (!OidIsValid(equal_operator))
    cannot_split(
        psprintf("a column of type %s beside GROUP BY", format_type_be(exprType(expression))),
        "The type has no equality.", "Leave it out, or cast it to text.");
  Index reference = 0;
  ListCell* cell;
  foreach (cell, split->original->targetList)
    reference = std::max(reference, static_cast<TargetEntry*>(lfirst(cell))->ressortgroupref);
  reference += static_cast<Index>(list_length(split->additional)) + 1;
  TargetEntry* const entry = makeTargetEntry(
      static_cast<Expr*>(copyObject(reinterpret_cast<Expr*>(expression))), 0, nullptr, true);
  entry->ressortgroupref = reference;
  SortGroupClause* const clause = makeNode(SortGroupClause);
  clause->tleSortGroupRef = reference;
  clause->eqop = equal_operator;
  clause->sortop = less;
  clause->hashable = hashable;
  split->groups = lappend(split->groups, entry);
  split->clauses = lappend(split->clauses, clause);
  split->additional = lappend(split->additional, entry);
}

int find_group(const Split& split, Node* expression) {
  int number = 0;
  ListCell* cell;
  foreach (cell, split.groups) {
    if (equal(static_cast<TargetEntry*>(lfirst(cell))->expr, expression)) return number;
    ++number;
  }
  return -1;
}

/// Finds aggregates and implied groups.
bool collect(Node* node, void* context) {
  auto* const split = static_cast<Split*>(context);
  if (node == nullptr || find_group(*split, node) >= 0) return false;
  if (IsA(node, Aggref)) {
    check_aggregate(reinterpret_cast<Aggref*>(node));
    split->aggregates = list_append_unique(split->aggregates, node);
    if (find_state(*split, reinterpret_cast<Aggref*>(node)) < 0)
      split->states = lappend(split->states, node);
    return false;
  }
  if (IsA(node, Var)) {
    add_group(split, node);
    return false;
  }
  return pg::visit_children(node, collect, context);
}

Node* graft(Node* node, void* context) {
  const auto* const split = static_cast<Split*>(context);
  if (node == nullptr) return nullptr;
  const int group = find_group(*split, node);
  if (group >= 0) return group_column(*split, group);
  if (IsA(node, Aggref)) {
    int number = 0;
    ListCell* cell;
    foreach (cell, split->aggregates) {
      if (equal(lfirst(cell), node))
        return combine_call(*split, reinterpret_cast<Aggref*>(node), number);
      ++number;
    }
  }
  return pg::change_children(node, graft, context);
}

FuncExpr* row_source(const Split& split, const char* shard_text) {
  const bool as_text = split.source == RowSource::text;
  const Oid function = as_text ? our_function("fan_out", {TEXTOID, TEXTARRAYOID, TEXTOID})
                               : our_function("partial_rows", {INTERNALOID});
  List* arguments;
  if (as_text)
    arguments = list_make3(text_constant(shard_text),
                           makeConst(TEXTARRAYOID, -1, DEFAULT_COLLATION_OID, -1, 0, true, false),
                           text_constant("error"));
  else
    arguments = list_make1(parameter());
  FuncExpr* const call =
      makeFuncExpr(function, RECORDOID, arguments, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
  call->funcretset = true;
  return call;
}

/// The function in FROM, with the columns that the shards return.
RangeTblEntry* row_source_entry(const Split& split, const char* shard_text) {
  RangeTblFunction* const function = makeNode(RangeTblFunction);
  function->funcexpr = reinterpret_cast<Node*>(row_source(split, shard_text));
  const auto add = [&](const char* prefix, int number, Oid type, int32 typmod, Oid collation) {
    ++function->funccolcount;
    function->funccolnames =
        lappend(function->funccolnames, makeString(psprintf("%s%d", prefix, number)));
    function->funccoltypes = lappend_oid(function->funccoltypes, type);
    function->funccoltypmods = lappend_int(function->funccoltypmods, typmod);
    function->funccolcollations = lappend_oid(function->funccolcollations, collation);
  };
  for (int i = 0; i < list_length(split.groups); ++i) {
    const auto* const column = reinterpret_cast<Var*>(group_column(split, i));
    if (get_typtype(column->vartype) == TYPTYPE_PSEUDO)
      cannot_split(psprintf("GROUP BY a value of type %s", format_type_be(column->vartype)),
                   "It cannot travel as a column.", "Group by its parts.");
    add("g", i + 1, column->vartype, column->vartypmod, column->varcollid);
  }
  for (int i = 0; i < list_length(split.states); ++i)
    add("a", i + 1, type_of_state(static_cast<Aggref*>(list_nth(split.states, i))), -1, InvalidOid);
  RangeTblEntry* const entry = makeNode(RangeTblEntry);
  entry->rtekind = RTE_FUNCTION;
  entry->functions = list_make1(function);
  entry->alias = makeAlias("s", NIL);
  entry->eref = makeAlias("s", static_cast<List*>(copyObject(function->funccolnames)));
  entry->inFromCl = true;
  return entry;
}

Query* coordinator_query(Split& split, const char* shard_text) {
  const Query* const original = split.original;
  Query* const query = makeNode(Query);
  query->commandType = CMD_SELECT;
  query->querySource = QSRC_ORIGINAL;
  query->canSetTag = true;
  query->hasAggs = split.aggregates != NIL;
  query->rtable = list_make1(row_source_entry(split, shard_text));
  RangeTblRef* const reference = makeNode(RangeTblRef);
  reference->rtindex = 1;
  query->jointree = makeFromExpr(list_make1(reference), nullptr);
  query->targetList = reinterpret_cast<List*>(graft(
      reinterpret_cast<Node*>(list_concat_copy(original->targetList, split.additional)), &split));
  AttrNumber number = 0;
  ListCell* cell;
  foreach (cell, query->targetList) static_cast<TargetEntry*>(lfirst(cell))->resno = ++number;
  query->groupClause = static_cast<List*>(copyObject(split.clauses));
  query->havingQual = graft(original->havingQual, &split);
  query->distinctClause = static_cast<List*>(copyObject(original->distinctClause));
  query->hasDistinctOn = original->hasDistinctOn;
  query->sortClause = static_cast<List*>(copyObject(original->sortClause));
  query->limitOffset = static_cast<Node*>(copyObject(original->limitOffset));
  query->limitCount = static_cast<Node*>(copyObject(original->limitCount));
  query->limitOption = original->limitOption;
  return query;
}

std::span<const AggregateCall> calls_of(const List* aggregates) {
  auto* const calls = static_cast<AggregateCall*>(
      palloc0(sizeof(AggregateCall) * static_cast<Size>(list_length(aggregates) + 1)));
  std::size_t count = 0;
  const ListCell* cell;
  foreach (cell, aggregates) calls[count++] = call_of(static_cast<Aggref*>(lfirst(cell)));
  return {calls, count};
}

void collect_all(Split* split) {
  const Query* const query = split->original;
  ListCell* cell;
  foreach (cell, query->groupClause) {
    auto* const clause = static_cast<SortGroupClause*>(lfirst(cell));
    split->groups = lappend(split->groups, get_sortgroupclause_tle(clause, query->targetList));
    split->clauses = lappend(split->clauses, clause);
  }
  (void)collect(reinterpret_cast<Node*>(query->targetList), split);
  (void)collect(query->havingQual, split);
}

}  // namespace

const char* text_of(const Query* query) {
  const int nest_level = NewGUCNestLevel();
  pg::set_for_nest_level("search_path", "pg_catalog, pg_temp");
  pg::set_for_nest_level("standard_conforming_strings", "on");
  pg::set_for_nest_level("datestyle", "ISO");
  pg::set_for_nest_level("intervalstyle", "postgres");
  pg::set_for_nest_level("extra_float_digits", "3");
  const char* text =
      pg_get_querydef(static_cast<Query*>(copyObject(const_cast<Query*>(query))), false);
  AtEOXact_GUC(false, nest_level);
  while (*text == ' ') ++text;
  return text;
}

SplitQuery split_query(const char* text, RowSource source) {
  RawStmt* const statement = parse_one_select(text);
  Query* const query = pg::analyze(statement, text);
  check_rows(query);
  if (!query->hasAggs && query->groupClause == NIL)
    cannot_split("a query without aggregates", "There is nothing to combine.",
                 "Use order_proc.fan_out.");
  Split split{};
  split.source = source;
  split.original = with_averages_in_parts(with_stable_values(query));
  collect_all(&split);
  const char* const shard_text = text_of(shard_query(split));
  return {{shard_text, calls_of(split.aggregates)}, coordinator_query(split, shard_text)};
}

}  // namespace order_proc
