#include "fast_path_facts.hpp"

#include "amounts.hpp"
#include "fast_path.hpp"
#include "fast_path_rules.hpp"
#include "pg/compat.hpp"

namespace order_proc {

bool fast_path_enabled = true;

namespace {

constexpr int32 any = -1;

constexpr std::array<ColumnRule, order_columns> order_rules{{
    {"id", INT8OID, any, Source::given},
    {"customer_id", INT8OID, any, Source::given},
    {"status", TEXTOID, any, Source::given},
    {"total_amount", NUMERICOID, total_typmod, Source::given},
    {"notes", TEXTOID, any, Source::given},
    {"customer_name", TEXTOID, any, Source::given},
    {"customer_email", TEXTOID, any, Source::given},
    {"created_at", TIMESTAMPTZOID, any, Source::now},
    {"updated_at", TIMESTAMPTZOID, any, Source::now},
}};
constexpr std::array<ColumnRule, item_columns> item_rules{{
    {"order_id", INT8OID, any, Source::given},
    {"id", INT8OID, any, Source::sequence},
    {"product_id", INT8OID, any, Source::given},
    {"quantity", INT4OID, any, Source::given},
    {"price", NUMERICOID, price_typmod, Source::given},
}};
constexpr std::array<ColumnRule, customer_columns> customer_rules{{
    {"id", INT8OID, any, Source::given},
    {"name", TEXTOID, any, Source::given},
    {"first_name", TEXTOID, any, Source::given},
    {"last_name", TEXTOID, any, Source::given},
    {"email", TEXTOID, any, Source::given},
}};

constexpr std::array<ColumnRule, reject_columns> reject_rules{{
    {"import_id", INT8OID, any, Source::given},
    {"line_number", INT8OID, any, Source::given},
    {"raw_line", TEXTOID, any, Source::given},
    {"sqlstate", TEXTOID, any, Source::given},
    {"message", TEXTOID, any, Source::given},
    {"imported_by", TEXTOID, any, Source::given},
    {"rejected_at", TIMESTAMPTZOID, any, Source::now},
}};

/// As PostgreSQL deparses them with search_path = pg_catalog. A CHECK for
/// the other placement is a user's own.
constexpr std::string_view total_check =
    "((total_amount >= (0)::numeric) AND (total_amount <> 'NaN'::numeric))";
constexpr std::array<std::string_view, 2> known_order_checks_by_hash{
    total_check,
    "((id & (4095)::bigint) = (hashint8extended(customer_id, (0)::bigint) & (4095)::bigint))"};
constexpr std::array<std::string_view, 2> known_order_checks_by_modulo{
    total_check, "((id & (4095)::bigint) = (customer_id & (4095)::bigint))"};
constexpr std::array<std::string_view, 2> known_item_checks{
    "(quantity > 0)", "((price >= (0)::numeric) AND (price <> 'NaN'::numeric))"};

struct Cache {
  Facts facts{};
  bool fresh = false;
  uint64 generation = 0;
};
Cache cache;

/// What hangs on the caller, not on the tables.
struct Rights {
  Oid user = InvalidOid;
  bool fresh = false;
  uint64 generation = 0;
  const char* create_obstacle = nullptr;  ///< constants or in `memory`
  const char* made_at_obstacle = nullptr;
  const char* items_obstacle = nullptr;
  const char* read_obstacle = nullptr;
  const char* owner_obstacle = nullptr;
};
Rights rights;

/// Columns that the layout does not have are not ours, whatever the user calls his own.
template <std::size_t n>
std::array<ColumnRule, n> without(std::array<ColumnRule, n> rules,
                                  std::initializer_list<int> absent) {
  for (const int column : absent) rules[static_cast<std::size_t>(column)].name = "";
  return rules;
}

template <std::size_t n>
void fill(TableFacts& facts, const Store& store, Table table,
          const std::array<ColumnRule, n>& columns, std::span<const std::string_view> known_checks,
          Oid parent, int parent_reference) {
  const Relation relation = open_table_of_layout(store, table, AccessShareLock);
  if (relation == nullptr) {
    facts.insert_obstacle = facts.read_obstacle = "the table went with a step down";
    return;
  }
  apply_rules(relation, {columns, known_checks, parent, parent_reference}, facts);
  table_close(relation, AccessShareLock);
}

void fill(const Store& store, Facts& facts) {
  const Oid customers = store.table(Table::customers);
  const Oid orders = store.table(Table::orders);
  fill(facts.orders, store, Table::orders,
       store.layout.has_notes() ? order_rules : without(order_rules, {o_notes}),
       store.placement == core::Placement::hash
           ? std::span<const std::string_view>(known_order_checks_by_hash)
           : std::span<const std::string_view>(known_order_checks_by_modulo),
       customers, o_customer_id);
  fill(facts.items, store, Table::order_items, item_rules, known_item_checks, orders, i_order_id);
  fill(facts.customers, store, Table::customers,
       store.layout.has_name() ? without(customer_rules, {c_first_name, c_last_name})
                               : without(customer_rules, {c_name}),
       {}, InvalidOid, 0);
  if (store.layout.index >= 6)
    fill(facts.rejects, store, Table::import_rejects, reject_rules, {}, InvalidOid, 0);
  facts.evaluation = CreateStandaloneExprContext();
  facts.order_slot = MakeSingleTupleTableSlot(facts.orders.descriptor, &TTSOpsHeapTuple);
}

/// The owners of the referenced tables check foreign keys: RI triggers act as they do, so they must
/// be able to.
const char* owner_obstacle(const Store& store) {
  for (const Table table : {Table::customers, Table::orders}) {
    const Oid owner = table_owner(store.table(table));
    constexpr AclMode needed = ACL_SELECT | ACL_UPDATE;
    if (pg_class_aclmask(store.table(table), owner, needed, ACLMASK_ALL) != needed ||
        !pg::may_use_schema(store.schema, owner))
      return table == Table::customers ? "the owner of the customers may not read and lock them"
                                       : "the owner of the orders may not read and lock them";
  }
  return nullptr;
}

const char* row_security_obstacle(const Store& store, std::initializer_list<Table> tables) {
  for (const Table table : tables)
    if (check_enable_rls(store.table(table), InvalidOid, true) == RLS_ENABLED)
      return "row level security applies to the caller";
  return nullptr;
}

bool may(const Store& store, Table table, const TableFacts& facts, AclMode privileges,
         std::span<const AttrNumber> inserted) {
  if (!pg::may_use_schema(store.schema, GetUserId())) return false;
  const bool reads = (privileges & ACL_SELECT) != 0;
  return pg::caller_may({store.table(table), privileges,
                         reads ? facts.columns : std::span<const AttrNumber>{}, inserted});
}

const char* create_rights_obstacle(const Store& store, const Facts& facts) {
  if (const char* reason =
          row_security_obstacle(store, {Table::orders, Table::order_items, Table::customers}))
    return reason;
  if (!may(store, Table::orders, facts.orders, ACL_INSERT, facts.orders.given) ||
      !may(store, Table::order_items, facts.items, ACL_INSERT, facts.items.given) ||
      !may(store, Table::customers, facts.customers, ACL_SELECT, {}))
    return "the caller lacks a privilege";
  return owner_obstacle(store);
}

/// Where created_at is given, INSERT names it.
const char* made_at_rights_obstacle(const Store& store, const Facts& facts) {
  return may(store, Table::orders, facts.orders, ACL_INSERT,
             facts.orders.columns.subspan(o_created_at, 1))
             ? nullptr
             : "the caller may not insert created_at";
}

const char* items_rights_obstacle(const Store& store, const Facts& facts) {
  if (const char* reason = row_security_obstacle(store, {Table::order_items})) return reason;
  const bool may_insert =
      may(store, Table::order_items, facts.items, ACL_INSERT, facts.items.given);
  return may_insert ? nullptr : "the caller lacks a privilege";
}

const char* read_rights_obstacle(const Store& store, const Facts& facts) {
  if (const char* reason = row_security_obstacle(store, {Table::orders, Table::order_items}))
    return reason;
  if (!may(store, Table::orders, facts.orders, ACL_SELECT, {}) ||
      !may(store, Table::order_items, facts.items, ACL_SELECT, {}))
    return "the caller lacks a privilege";
  return nullptr;
}

const Rights& rights_of_caller(const Store& store, const Facts& facts) {
  // Another extension's hook may answer differently each time.
  const bool fresh = rights.fresh && rights.user == GetUserId() &&
                     rights.generation == store_generation() && ExecutorCheckPerms_hook == nullptr;
  if (!fresh) {
    rights.fresh = true;
    rights.user = GetUserId();
    rights.generation = store_generation();
    rights.create_obstacle = create_rights_obstacle(store, facts);
    rights.made_at_obstacle = made_at_rights_obstacle(store, facts);
    rights.items_obstacle = items_rights_obstacle(store, facts);
    rights.read_obstacle = read_rights_obstacle(store, facts);
    rights.owner_obstacle = owner_obstacle(store);
  }
  return rights;
}

void functions_changed(Datum, int, uint32) {
  cache.fresh = false;
}
void roles_changed(Datum, int, uint32) {
  rights.fresh = false;
}

}  // namespace

Facts& fast_path_facts(const Store& store) {
  Facts& facts = cache.facts;
  if (cache.fresh && cache.generation == store_generation()) return facts;
  const MemoryContext memory =
      facts.memory != nullptr
          ? facts.memory
          : AllocSetContextCreate(TopMemoryContext, "order_proc fast path", ALLOCSET_SMALL_SIZES);
  cache.fresh = rights.fresh = false;
  MemoryContextReset(memory);
  facts = {};
  facts.memory = memory;
  const uint64 generation = store_generation();
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  fill(store, facts);
  MemoryContextSwitchTo(saved);
  // DDL that was announced while reading has counted the generation on: the next call reads again.
  cache.generation = generation;
  cache.fresh = true;
  return facts;
}

namespace {

const char* session_obstacle() {
  if (!fast_path_enabled) return "order_proc.fast_path is off";
  if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
    return "session_replication_role is replica";
  return nullptr;
}

}  // namespace

const char* create_obstacle(const Store& store, const Facts& facts) {
  for (const char* reason : {session_obstacle(), facts.orders.insert_obstacle,
                             facts.items.insert_obstacle, facts.customers.read_obstacle})
    if (reason != nullptr) return reason;
  return rights_of_caller(store, facts).create_obstacle;
}

const char* create_made_at_obstacle(const Store& store, const Facts& facts) {
  if (const char* reason = create_obstacle(store, facts)) return reason;
  return rights_of_caller(store, facts).made_at_obstacle;
}

namespace {

/// Items go in together and their keys apart, by key: only where neither shows.
const char* together_obstacle(const TableFacts& items) {
  if (items.row_by_row) return "a constraint of the user's may refuse rows of order_items";
  for (const IndexUse& use : items.indexes)
    if (use.oid == items.primary_key && use.info->ii_NumIndexAttrs == 2) return nullptr;
  return "the primary key of \"order_items\" is not just (order_id, id)";
}

}  // namespace

const char* batch_obstacle(const Store& store, const Facts& facts) {
  for (const char* reason : {session_obstacle(), facts.items.insert_obstacle})
    if (reason != nullptr) return reason;
  if (const char* reason = together_obstacle(facts.items)) return reason;
  return rights_of_caller(store, facts).items_obstacle;
}

const char* read_obstacle(const Store& store, const Facts& facts) {
  if (!fast_path_enabled) return "order_proc.fast_path is off";
  for (const char* reason : {facts.orders.read_obstacle, facts.items.read_obstacle})
    if (reason != nullptr) return reason;
  return rights_of_caller(store, facts).read_obstacle;
}

const char* lock_obstacle(const Store& store, const Facts& facts, const TableFacts& parents) {
  if (!fast_path_enabled) return "order_proc.fast_path is off";
  if (parents.read_obstacle != nullptr) return parents.read_obstacle;
  return rights_of_caller(store, facts).owner_obstacle;
}

const char* rejects_obstacle(const Store& store, const Facts& facts) {
  const Oid table = store.table(Table::import_rejects);
  for (const char* reason : {session_obstacle(), facts.rejects.insert_obstacle})
    if (reason != nullptr) return reason;
  if (pg_class_aclcheck(table, table_owner(table), ACL_INSERT) != ACLCHECK_OK)
    return "the owner of the rejects may not insert them";
  return nullptr;
}

void watch_fast_path() {
  CacheRegisterSyscacheCallback(PROCOID, functions_changed, 0);
  CacheRegisterSyscacheCallback(AUTHOID, roles_changed, 0);
  CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, 0);
}

}  // namespace order_proc
