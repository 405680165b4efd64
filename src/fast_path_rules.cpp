// Each rule answers with the reason, for explain_fast_path, or null. A reason names what stands in
// the way.
#include "fast_path_rules.hpp"

#include "pg/compat.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

/// A function of PostgreSQL's that somebody took away from PUBLIC: whether it may be called is the
/// caller's matter.
bool restricted_function(Oid function) {
  const HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
  if (!HeapTupleIsValid(row)) return true;
  const bool restricted = !heap_attisnull(row, Anum_pg_proc_proacl, nullptr);
  ReleaseSysCache(row);
  return restricted;
}

bool user_function(Oid function, void*) {
  return function >= FirstNormalObjectId || func_volatile(function) != PROVOLATILE_IMMUTABLE ||
         restricted_function(function);
}

bool user_code_walker(Node* node, void* context) {
  if (node == nullptr) return false;
  if (check_functions_in_node(node, user_function, nullptr)) return true;
  if (IsA(node, CoerceToDomain) || IsA(node, SQLValueFunction) || IsA(node, NextValueExpr))
    return true;
  return pg::visit_children(node, user_code_walker, context);
}

/// Anything but immutable functions of PostgreSQL itself.
bool runs_user_code(Node* expression) {
  return user_code_walker(expression, nullptr);
}

const char* kind_obstacle(Relation relation) {
  const Form_pg_class form = relation->rd_rel;
  if (form->relkind == RELKIND_PARTITIONED_TABLE)
    return psprintf("table \"%s\" is partitioned", NameStr(form->relname));
  if (form->relkind != RELKIND_RELATION)
    return psprintf("\"%s\" is not a plain table", NameStr(form->relname));
  if (form->relispartition) return psprintf("table \"%s\" is a partition", NameStr(form->relname));
  if (relation->rd_tableam != GetHeapamTableAmRoutine())
    return psprintf("table \"%s\" does not use the heap access method", NameStr(form->relname));
  return nullptr;
}

/// The fence of a shard as it was made: writers look at the slot themselves.
bool is_slot_fence(const Trigger& trigger) {
  return trigger.tgenabled == TRIGGER_FIRES_ON_ORIGIN && trigger.tgqual == nullptr &&
         TRIGGER_FOR_BEFORE(trigger.tgtype) && is_our_function(trigger.tgfoid, "check_slot");
}

const char* trigger_obstacle(Relation relation, const ForeignKeyCacheInfo* foreign_key) {
  const TriggerDesc* const triggers = relation->trigdesc;
  bool checked = false;
  for (int i = 0; triggers != nullptr && i < triggers->numtriggers; ++i) {
    const Trigger& trigger = triggers->triggers[i];
    // The check of a deferrable unique constraint is told by its index.
    if (!TRIGGER_FOR_INSERT(trigger.tgtype) || trigger.tgfoid == F_UNIQUE_KEY_RECHECK ||
        is_slot_fence(trigger))
      continue;
    if (foreign_key != nullptr && trigger.tgfoid == F_RI_FKEY_CHECK_INS &&
        trigger.tgconstraint == foreign_key->conoid) {
      if (trigger.tgdeferrable)
        return psprintf("foreign key \"%s\" is deferrable",
                        get_constraint_name(foreign_key->conoid));
      if (trigger.tgenabled != TRIGGER_FIRES_ON_ORIGIN)
        return psprintf("foreign key \"%s\" is not enabled as usual",
                        get_constraint_name(foreign_key->conoid));
      checked = true;
    } else if (trigger.tgenabled == TRIGGER_FIRES_ON_ORIGIN ||
               trigger.tgenabled == TRIGGER_FIRES_ALWAYS) {
      return psprintf("trigger \"%s\" fires on INSERT", trigger.tgname);
    }
  }
  return foreign_key == nullptr || checked ? nullptr : "the foreign key has no trigger";
}

/// The one foreign key, of our column to the id of our parent.
const char* foreign_key_obstacle(Relation relation, const TableRules& rules,
                                 std::span<const AttrNumber> columns) {
  if (!OidIsValid(rules.parent)) return trigger_obstacle(relation, nullptr);
  List* const keys = RelationGetFKeyList(relation);
  if (list_length(keys) != 1)
    return psprintf("table \"%s\" has %d foreign keys, not one", RelationGetRelationName(relation),
                    list_length(keys));
  const auto* const key = static_cast<const ForeignKeyCacheInfo*>(linitial(keys));
  if (key->confrelid != rules.parent || key->nkeys != 1 ||
      key->conkey[0] != columns[static_cast<std::size_t>(rules.parent_reference)] ||
      key->confkey[0] != get_attnum(rules.parent, "id") || !pg::enforced(key))
    return psprintf("foreign key \"%s\" is not the one of the store",
                    get_constraint_name(key->conoid));
  return trigger_obstacle(relation, key);
}

Node* default_of(Relation relation, AttrNumber column) {
  const TupleConstr* const constraints = RelationGetDescr(relation)->constr;
  for (int i = 0; constraints != nullptr && i < constraints->num_defval; ++i)
    if (constraints->defval[i].adnum == column)
      return strip_implicit_coercions(
          static_cast<Node*>(stringToNode(constraints->defval[i].adbin)));
  return nullptr;
}

bool defaults_to_now(Relation relation, AttrNumber column) {
  Node* const expression = default_of(relation, column);
  return expression != nullptr && IsA(expression, FuncExpr) &&
         castNode(FuncExpr, expression)->funcid == F_NOW;
}

/// The sequence of nextval('...'), InvalidOid for any other default.
Oid default_sequence(Relation relation, AttrNumber column) {
  Node* const expression = default_of(relation, column);
  if (expression == nullptr || !IsA(expression, FuncExpr)) return InvalidOid;
  const FuncExpr* const call = castNode(FuncExpr, expression);
  if (call->funcid != F_NEXTVAL || !IsA(linitial(call->args), Const)) return InvalidOid;
  const Const* const sequence = linitial_node(Const, call->args);
  return sequence->constisnull ? InvalidOid : DatumGetObjectId(sequence->constvalue);
}

const char* own_column_obstacle(Relation relation, const ColumnRule& rule, AttrNumber number,
                                TableFacts& facts) {
  const FormData_pg_attribute& attribute = *TupleDescAttr(RelationGetDescr(relation), number - 1);
  const char* const table = RelationGetRelationName(relation);
  if (attribute.atttypid != rule.type || attribute.atttypmod != rule.typmod)
    return psprintf("column \"%s\" of \"%s\" has type %s", rule.name, table,
                    format_type_with_typemod(attribute.atttypid, attribute.atttypmod));
  if (attribute.attidentity != '\0')
    return psprintf("column \"%s\" of \"%s\" is an identity column", rule.name, table);
  if (rule.source == Source::now && restricted_function(F_NOW)) return "now() is not for PUBLIC";
  if (rule.source == Source::sequence && restricted_function(F_NEXTVAL))
    return "nextval() is not for PUBLIC";
  if (rule.source == Source::now && !defaults_to_now(relation, number))
    return psprintf("the default of column \"%s\" of \"%s\" is not now()", rule.name, table);
  if (rule.source == Source::sequence) {
    facts.sequence = default_sequence(relation, number);
    if (!OidIsValid(facts.sequence))
      return psprintf("the default of column \"%s\" of \"%s\" is not nextval() of a sequence",
                      rule.name, table);
  }
  return nullptr;
}

/// A nullable column without a default is no obstacle: it stays NULL.
const char* user_column_obstacle(Relation relation, const FormData_pg_attribute& attribute) {
  const char* const table = RelationGetRelationName(relation);
  const char* const name = NameStr(attribute.attname);
  if (attribute.atthasdef || attribute.attidentity != '\0')
    return psprintf("column \"%s\" of \"%s\" has a default", name, table);
  if (attribute.attnotnull) return psprintf("column \"%s\" of \"%s\" is NOT NULL", name, table);
  if (get_typtype(attribute.atttypid) == TYPTYPE_DOMAIN)
    return psprintf("column \"%s\" of \"%s\" is of a domain", name, table);
  return nullptr;
}

const char* column_obstacle(Relation relation, const TableRules& rules, TableFacts& facts) {
  const TupleDesc descriptor = RelationGetDescr(relation);
  if (descriptor->constr != nullptr && pg::has_generated_columns(descriptor->constr))
    return psprintf("table \"%s\" has a generated column", RelationGetRelationName(relation));
  for (std::size_t i = 0; i < rules.columns.size(); ++i) {
    if (facts.columns[i] == InvalidAttrNumber) continue;
    if (const char* reason =
            own_column_obstacle(relation, rules.columns[i], facts.columns[i], facts))
      return reason;
  }
  for (int i = 0; i < descriptor->natts; ++i) {
    const FormData_pg_attribute& attribute = *TupleDescAttr(descriptor, i);
    const bool ours = std::find(facts.columns.begin(), facts.columns.end(), attribute.attnum) !=
                      facts.columns.end();
    if (attribute.attisdropped) continue;
    if (!ours)
      if (const char* reason = user_column_obstacle(relation, attribute)) return reason;
  }
  return nullptr;
}

/// Compiles the CHECKs that are not known to hold.
const char* check_obstacle(Relation relation, const TableRules& rules, TableFacts& facts) {
  const TupleConstr* const constraints = RelationGetDescr(relation)->constr;
  const int count = constraints == nullptr ? 0 : constraints->num_check;
  auto* const compiled =
      static_cast<ExprState**>(palloc(sizeof(ExprState*) * static_cast<Size>(count + 1)));
  std::size_t used = 0;
  List* const names =
      deparse_context_for(RelationGetRelationName(relation), RelationGetRelid(relation));
  for (int i = 0; i < count; ++i) {
    const ConstrCheck& check = constraints->check[i];
    if (!pg::enforced(check)) continue;
    auto* const expression = static_cast<Node*>(stringToNode(check.ccbin));
    if (runs_user_code(expression))
      return psprintf("CHECK \"%s\" calls a function of a user's or a volatile one", check.ccname);
    std::string_view text;
    pg::with_locked_path([&] { text = deparse_expression(expression, names, false, false); });
    if (std::find(rules.known_checks.begin(), rules.known_checks.end(), text) !=
        rules.known_checks.end())
      continue;
    compiled[used++] =
        ExecInitExpr(expression_planner(reinterpret_cast<Expr*>(expression)), nullptr);
  }
  facts.checks = {compiled, used};
  return nullptr;
}

const char* one_index_obstacle(Relation index, IndexUse& use) {
  const char* const name = RelationGetRelationName(index);
  if (index->rd_rel->relam != BTREE_AM_OID) return psprintf("index \"%s\" is not a btree", name);
  if (index->rd_index->indisexclusion)
    return psprintf("index \"%s\" is behind an exclusion constraint", name);
  if (!index->rd_index->indimmediate)
    return psprintf("index \"%s\" is behind a deferrable constraint", name);
  for (int i = 0; i < index->rd_index->indnkeyatts; ++i)
    if (index->rd_opfamily[i] >= FirstNormalObjectId)
      return psprintf("index \"%s\" uses an operator class of a user's", name);
  use.oid = RelationGetRelid(index);
  use.info = BuildIndexInfo(index);
  if (runs_user_code(reinterpret_cast<Node*>(use.info->ii_Expressions)) ||
      runs_user_code(reinterpret_cast<Node*>(use.info->ii_Predicate)))
    return psprintf("index \"%s\" calls a function of a user's", name);
  use.expressions = ExecInitExprList(use.info->ii_Expressions, nullptr);
  use.predicate = ExecInitQual(use.info->ii_Predicate, nullptr);
  return nullptr;
}

const char* index_obstacle(Relation relation, TableFacts& facts) {
  List* const oids = RelationGetIndexList(relation);
  auto* const uses =
      static_cast<IndexUse*>(palloc0(sizeof(IndexUse) * static_cast<Size>(list_length(oids) + 1)));
  std::size_t used = 0;
  const char* reason = nullptr;
  ListCell* cell;
  foreach (cell, oids) {
    const Relation index = index_open(lfirst_oid(cell), AccessShareLock);
    if (index->rd_index->indisready && reason == nullptr)
      reason = one_index_obstacle(index, uses[used++]);
    index_close(index, AccessShareLock);
  }
  facts.indexes = {uses, used};
  return reason;
}

/// A column of ours that may get a NULL and that the user made NOT NULL.
bool null_needs_check(Relation relation, const TableRules& rules,
                      std::span<const AttrNumber> columns) {
  for (std::size_t i = 0; i < rules.columns.size(); ++i) {
    const std::string_view name = rules.columns[i].name;
    if (columns[i] != InvalidAttrNumber &&
        TupleDescAttr(RelationGetDescr(relation), columns[i] - 1)->attnotnull &&
        (name == "notes" || name == "customer_name" || name == "customer_email"))
      return true;
  }
  return false;
}

/// The primary key, when a look-up by its leading columns finds all rows now.
const char* primary_key_obstacle(Relation relation, TableFacts& facts,
                                 std::span<const AttrNumber> key) {
  facts.primary_key = pg::primary_key_index(relation);
  const char* const table = RelationGetRelationName(relation);
  if (!OidIsValid(facts.primary_key)) return psprintf("table \"%s\" has no primary key", table);
  const Relation index = index_open(facts.primary_key, AccessShareLock);
  const Form_pg_index form = index->rd_index;
  bool fits = form->indisvalid && form->indimmediate && !form->indcheckxmin &&
              index->rd_rel->relam == BTREE_AM_OID &&
              form->indnkeyatts == static_cast<int>(key.size());
  for (std::size_t i = 0; fits && i < key.size(); ++i)
    fits = form->indkey.values[i] == key[i] && index->rd_indoption[i] == 0 &&
           index->rd_opfamily[i] < FirstNormalObjectId;
  index_close(index, AccessShareLock);
  return fits ? nullptr
              : psprintf("the primary key of \"%s\" is not the one of the store, or not valid",
                         table);
}

const char* insert_obstacle(Relation relation, const TableRules& rules, TableFacts& facts) {
  if (const char* reason = kind_obstacle(relation)) return reason;
  if (relation->rd_rules != nullptr)
    return psprintf("table \"%s\" has rules", RelationGetRelationName(relation));
  if (const char* reason = foreign_key_obstacle(relation, rules, facts.columns)) return reason;
  if (const char* reason = column_obstacle(relation, rules, facts)) return reason;
  if (const char* reason = check_obstacle(relation, rules, facts)) return reason;
  return index_obstacle(relation, facts);
}

/// The types decide how values are read; the rest is the storage.
const char* read_obstacle(Relation relation, const TableRules& rules, TableFacts& facts,
                          std::span<const AttrNumber> key) {
  if (const char* reason = kind_obstacle(relation)) return reason;
  if (relation->rd_rel->relhassubclass)
    return psprintf("other tables inherit from \"%s\"", RelationGetRelationName(relation));
  for (std::size_t i = 0; i < rules.columns.size(); ++i)
    if (facts.columns[i] != InvalidAttrNumber &&
        TupleDescAttr(RelationGetDescr(relation), facts.columns[i] - 1)->atttypid !=
            rules.columns[i].type)
      return psprintf("column \"%s\" of \"%s\" is of a domain", rules.columns[i].name,
                      RelationGetRelationName(relation));
  return primary_key_obstacle(relation, facts, key);
}

std::span<const AttrNumber> given_columns(const TableRules& rules,
                                          std::span<const AttrNumber> columns) {
  auto* const given = static_cast<AttrNumber*>(palloc(sizeof(AttrNumber) * columns.size()));
  std::size_t count = 0;
  for (std::size_t i = 0; i < columns.size(); ++i)
    if (rules.columns[i].source == Source::given && columns[i] != InvalidAttrNumber)
      given[count++] = columns[i];
  return {given, count};
}

/// An index of the user's that can refuse a row: unique, or over an expression that can fail.
bool may_conflict(const TableFacts& facts) {
  return std::any_of(facts.indexes.begin(), facts.indexes.end(), [&](const IndexUse& use) {
    return use.oid != facts.primary_key &&
           (use.info->ii_Unique || use.expressions != NIL || use.predicate != nullptr);
  });
}

}  // namespace

void apply_rules(Relation relation, const TableRules& rules, TableFacts& facts) {
  facts.descriptor = CreateTupleDescCopyConstr(RelationGetDescr(relation));
  auto* const columns = static_cast<AttrNumber*>(palloc(sizeof(AttrNumber) * rules.columns.size()));
  for (std::size_t i = 0; i < rules.columns.size(); ++i)
    columns[i] = get_attnum(RelationGetRelid(relation), rules.columns[i].name);
  facts.columns = {columns, rules.columns.size()};
  // order_items is found by (order_id, id), the others by (id): their first columns.
  const std::size_t key_size = std::string_view(rules.columns[0].name) == "id" ? 1 : 2;
  facts.read_obstacle = read_obstacle(relation, rules, facts, facts.columns.subspan(0, key_size));
  facts.insert_obstacle = insert_obstacle(relation, rules, facts);
  facts.given = given_columns(rules, facts.columns);
  facts.checks_nulls = null_needs_check(relation, rules, facts.columns);
  facts.row_by_row = facts.insert_obstacle == nullptr &&
                     (facts.checks_nulls || !facts.checks.empty() || may_conflict(facts));
}

}  // namespace order_proc
