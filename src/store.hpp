// The store: where the tables of the user's are, at which layout, and who owns them.
//
// One descriptor per backend, static, filled at the first use and again after any DDL on what it
// names (relation cache and catalog callbacks mark it stale). Nothing in it points anywhere, so an
// ERROR in the middle leaves it stale, never half true.
#pragma once

#include "core/layout.hpp"
#include "core/slot.hpp"
#include "pg/postgres.hpp"

namespace order_proc {

/// The tables and sequences of the store that functions use; the order is that of the table in
/// store_shape.cpp.
enum class Table {
  store,
  migrations,
  customers,
  orders,
  order_items,
  order_statuses,
  status_transitions,
  order_status_history,
  idempotency_keys,
  import_rejects,  ///< from layout 1.6 on
  cluster,         ///< this and the next three from layout 1.7 on
  shards,
  slot_map,
  commit_log,
  receipts,  ///< this and the next from layout 1.8 on
  sagas,
};
inline constexpr std::size_t table_count = 16;

/// Which of the tables.
class TableSet {
 public:
  constexpr TableSet() = default;
  constexpr TableSet(std::initializer_list<Table> tables) {
    for (const Table table : tables) bits_ |= bit(static_cast<std::size_t>(table));
  }
  /// All, and the sequences with them.
  static constexpr TableSet whole() {
    TableSet all;
    all.bits_ = bit(table_count + 1) - 1;
    return all;
  }

  constexpr bool has(Table table) const { return has(static_cast<std::size_t>(table)); }
  constexpr bool has(std::size_t table) const { return (bits_ & bit(table)) != 0; }
  constexpr bool has_sequences() const { return has(table_count); }
  constexpr bool covers(TableSet others) const { return others.without(*this).empty(); }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr void add(Table table) { bits_ |= bit(static_cast<std::size_t>(table)); }
  constexpr void add(TableSet others) { bits_ |= others.bits_; }
  constexpr TableSet without(TableSet others) const {
    TableSet rest = *this;
    rest.bits_ &= ~others.bits_;
    return rest;
  }

 private:
  static constexpr uint32 bit(std::size_t table) { return uint32{1} << table; }
  uint32 bits_ = 0;
};

struct Store {
  Oid schema = InvalidOid;
  Oid owner = InvalidOid;  ///< of order_store.store: acts for the library
  core::Layout layout{};
  core::Placement placement{};
  std::array<Oid, table_count> tables{};
  Oid orders_sequence = InvalidOid;
  Oid customers_sequence = InvalidOid;
  int32 price_typmod = -1;  ///< of order_items.price
  int32 total_typmod = -1;  ///< of orders.total_amount

  Oid table(Table which) const { return tables[static_cast<std::size_t>(which)]; }
};

/// The store, checked: its layout is that of the extension, its tables have the columns that
/// functions use. Raises OP001 without a store and OP002 when store and extension do not fit.
const Store& open_store();

/// The same for a caller who may lack USAGE on the schema: for what only tells about the store.
const Store& open_store_for_anyone();

/// The same, with locks on `tables` held until the end of the transaction, and true under them: DDL
/// that came first is seen.
const Store& open_store(std::initializer_list<std::pair<Table, LOCKMODE>> locks);

/// The store at whatever layout the library knows, for what must work while it lags behind
/// (schema_version, migrations, the backfill). Raises OP001 without a store, OP002 for an unknown
/// layout.
const Store& open_store_at_any_layout();

/// The same with no more than `tables` (and order_store.store) looked up and checked: a session's
/// first call is the dearer the more it asks the catalogue. Of the descriptor nothing else may be
/// used, but what was opened before.
const Store& open_tables(TableSet tables);
const Store& open_tables_for_anyone(TableSet tables);
const Store& open_tables_at_any_layout(TableSet tables);

/// `tables`, too, as far as the store was checked when it was opened.
const Store& open_also(TableSet tables);

/// The version of the installed extension, an index into core::layouts; OP002 for one the library
/// lacks.
std::size_t extension_layout();

/// Whether there is a schema order_store at all, and a store in it.
bool store_schema_exists();
bool store_present();

/// Whether it was made by the present transaction.
bool store_made_in_this_transaction();

/// Counts up whenever the descriptor was found stale: what hangs on it compares and reads anew.
uint64 store_generation();

/// Makes every backend read the descriptor anew, now here and at commit elsewhere.
void invalidate_store();

/// A table of the store. Raises OP002 when it was dropped in the middle of the call, which a
/// trigger can do.
Relation open_table(Oid table, LOCKMODE lock);

/// The same for one that not all layouts have: nullptr when a step down took it, with the layout,
/// after the store was opened.
Relation open_table_of_layout(const Store& store, Table which, LOCKMODE lock);

/// Owner of the table, as which RI triggers and the library itself touch it.
Oid table_owner(Oid table);

/// Raises 55000 on a server that hashes customers to other slots than all others do: ids carry
/// slots.
void check_slot_vectors();

/// Whether the function is the one of that name in schema order_proc: nobody else may make
/// functions there.
bool is_our_function(Oid function, std::string_view name);

/// Whether the table has a trigger that calls the function of that name in schema order_proc.
bool has_trigger(Oid table, std::string_view function);

/// Whether a rule, or a row trigger of somebody else's, may keep an INSERT or UPDATE of the table
/// from writing what it was given. The table is locked.
bool others_may_change_rows(Oid table, int16 trigger_event);

/// Raises 42501 unless the caller owns the store (or is a superuser or member of the owner).
void require_store_owner(const Store& store, const char* action);

/// Raises 55000 unless one role owns all tables of the store: a step that acts as one of them would
/// fire triggers of the others with his rights.
void require_one_owner(const Store& store);

/// Whether DROP EXTENSION ... CASCADE took a trigger of ours.
bool lacks_triggers(const Store& store);

/// Callbacks; once, from _PG_init.
void watch_store();

}  // namespace order_proc
