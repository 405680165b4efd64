// What the tables of the store must look like for the functions: names, columns, triggers, by
// layout.
#pragma once

#include "store.hpp"

namespace order_proc {

inline constexpr const char* migrate_hint = "SELECT order_proc.migrate_store();";

/// Its name in schema order_store.
const char* table_name(Table which);

/// OP002.
[[noreturn]] void mismatch(const char* message, const char* hint);

/// The oids of the tables by their names; false when there is none of them.
bool find_tables(Oid schema, TableSet which, std::span<Oid, table_count> tables);

/// Raise OP002 for what the store lacks at its layout.
void require_table(const Store& store, Table which);
void check_tables(const Store& store, TableSet which);
void check_columns(const Store& store, TableSet which);
void check_triggers(const Store& store, TableSet which);

}  // namespace order_proc
