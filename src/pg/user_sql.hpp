// Texts of queries and commands that users hand over: which are allowed, and how they run here.
#pragma once

#include "pg/spi.hpp"

namespace order_proc::pg {

/// One SELECT, VALUES, TABLE or SHOW, parsed: 42601 for a syntax error or several statements, 0A000
/// for others.
Node* require_query(const char* sql);

/// One statement that can be part of a transaction on a shard: no transaction control, SET, LISTEN,
/// COPY or the like (0A000).
void require_command(const char* sql);

/// Runs a query that can write nothing, rows to `receiver`; 42804 unless it returns the columns of
/// `wanted`.
void read_only_query(const char* sql, std::span<const Value> texts, TupleDesc wanted,
                     DestReceiver* receiver);

/// Runs a command here; its command tag, as servers tell it.
const char* run_command(const char* sql);

/// 42P02 for values of parameters that a query does not have.
[[noreturn]] void too_many_values(int given);

}  // namespace order_proc::pg
