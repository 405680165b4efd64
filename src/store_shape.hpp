// What the tables of the store must look like for the functions: names, columns, triggers, by
// layout.
#pragma once

#include "store.hpp"

namespace order_proc {

inline constexpr const char* migrate_hint = "SELECT order_proc.migrate_store();";

/// Its name in schema order_store.
const char* table_name(Table which);

/// What is not as the layout wants it, and the statement that mends it.
struct Mismatch {
  const char* message;
  const char* hint;
};

/// OP002.
[[noreturn]] void mismatch(const Mismatch& wrong);
[[noreturn]] void mismatch(const char* message, const char* hint);

/// The oids of the tables by their names; false when there is none of them.
bool find_tables(Oid schema, TableSet which, std::span<Oid, table_count> tables);

/// Raises OP002 unless it is a table.
void require_table(const Store& store, Table which);

/// The first thing that the store lacks at its layout. What does so may have changed this very
/// moment: the caller knows whether the layout is still the one that was read.
std::optional<Mismatch> wrong_table(const Store& store, TableSet which);
std::optional<Mismatch> wrong_column(const Store& store, TableSet which);
std::optional<Mismatch> missing_trigger(const Store& store, TableSet which);

}  // namespace order_proc
