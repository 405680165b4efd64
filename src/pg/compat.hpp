// Differences between server versions 15 to 18 that functions cannot hide elsewhere.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

inline IndexScanDesc index_begin_scan(Relation heap, Relation index, Snapshot snapshot, int keys) {
#if PG_VERSION_NUM >= 180000
  return index_beginscan(heap, index, snapshot, nullptr, keys, 0);
#else
  return index_beginscan(heap, index, snapshot, keys, 0);
#endif
}

/// The number of the present transaction in this backend.
inline LocalTransactionId local_transaction() {
#if PG_VERSION_NUM >= 170000
  return MyProc->vxid.lxid;
#else
  return MyProc->lxid;
#endif
}

inline bool may_use_schema(Oid schema, Oid role) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
  return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/// The valid, immediate primary key's index; InvalidOid without one.
inline Oid primary_key_index(Relation table) {
#if PG_VERSION_NUM >= 180000
  return RelationGetPrimaryKeyIndex(table, false);
#else
  return RelationGetPrimaryKeyIndex(table);
#endif
}

/// Columns of one table that a statement would read or write.
struct TableAccess {
  Oid table;
  AclMode privileges;
  std::span<const AttrNumber> selected;
  std::span<const AttrNumber> inserted;
  std::span<const AttrNumber> updated = {};
};

/// A range table of one table, with what a statement would do to it.
struct RangeTable {
  List* entries;
  List* permissions;  ///< from 16 on
};

inline RangeTable range_table(const TableAccess& access) {
  const auto columns = [](std::span<const AttrNumber> numbers) {
    Bitmapset* set = nullptr;
    for (const AttrNumber number : numbers)
      if (number != InvalidAttrNumber)
        set = bms_add_member(set, number - FirstLowInvalidHeapAttributeNumber);
    return set;
  };
  RangeTblEntry* const entry = makeNode(RangeTblEntry);
  entry->rtekind = RTE_RELATION;
  entry->relid = access.table;
  entry->relkind = RELKIND_RELATION;
  entry->rellockmode = AccessShareLock;
#if PG_VERSION_NUM >= 160000
  RTEPermissionInfo* const permissions = makeNode(RTEPermissionInfo);
  permissions->relid = access.table;
  permissions->requiredPerms = access.privileges;
  permissions->selectedCols = columns(access.selected);
  permissions->insertedCols = columns(access.inserted);
  permissions->updatedCols = columns(access.updated);
  entry->perminfoindex = 1;
  return {list_make1(entry), list_make1(permissions)};
#else
  entry->requiredPerms = access.privileges;
  entry->selectedCols = columns(access.selected);
  entry->insertedCols = columns(access.inserted);
  entry->updatedCols = columns(access.updated);
  return {list_make1(entry), NIL};
#endif
}

/// Whether the executor would let the caller, hooks of other extensions included.
inline bool caller_may(const TableAccess& access) {
  const RangeTable table = range_table(access);
#if PG_VERSION_NUM >= 160000
  return ExecCheckPermissions(table.entries, table.permissions, false);
#else
  return ExecCheckRTPerms(table.entries, false);
#endif
}

inline void init_range_table(EState* estate, const RangeTable& table) {
#if PG_VERSION_NUM >= 180000
  ExecInitRangeTable(estate, table.entries, table.permissions, bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
  ExecInitRangeTable(estate, table.entries, table.permissions);
#else
  ExecInitRangeTable(estate, table.entries);
#endif
}

/// Of pg_database AS d: the locale that is not libc's, and what tailors it.
#if PG_VERSION_NUM >= 170000
inline constexpr const char* locale_columns = "d.datlocale, d.daticurules";
#elif PG_VERSION_NUM >= 160000
inline constexpr const char* locale_columns = "d.daticulocale, d.daticurules";
#else
inline constexpr const char* locale_columns = "d.daticulocale, NULL::pg_catalog.text";
#endif

using ExpressionVisitor = bool (*)(Node* node, void* context);

/// Calls `visit` for each child; a macro with a check of its own from 16 on, untyped before.
inline bool visit_children(Node* node, ExpressionVisitor visit, void* context) {
#if PG_VERSION_NUM >= 160000
  return expression_tree_walker(node, visit, context);
#else
  return expression_tree_walker(
      node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(visit)), context);
#endif
}

/// Stored in the row; virtual ones of PostgreSQL 18 as well.
inline bool has_generated_columns(const TupleConstr* constraints) {
#if PG_VERSION_NUM >= 180000
  return constraints->has_generated_stored || constraints->has_generated_virtual;
#else
  return constraints->has_generated_stored;
#endif
}

inline bool enforced(const ForeignKeyCacheInfo* foreign_key) {
#if PG_VERSION_NUM >= 180000
  return foreign_key->conenforced;
#else
  (void)foreign_key;
  return true;
#endif
}

inline bool enforced(const ConstrCheck& check) {
#if PG_VERSION_NUM >= 180000
  return check.ccenforced;
#else
  (void)check;
  return true;
#endif
}

}  // namespace order_proc::pg
