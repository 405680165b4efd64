// Whether a query over the store can be answered shard by shard.
#pragma once

#include "pg/query.hpp"

namespace order_proc {

/// 0A000: `what` cannot be split.
[[noreturn]] void cannot_split(const char* what, const char* why, const char* hint);

/// The one statement in `text`, a SELECT; 42601 and 0A000 otherwise.
RawStmt* parse_one_select(const char* text);

/// Raises 0A000 unless the rows of FROM and WHERE are those of the shards put together: tables of
/// the store, joined on customer or order, subqueries that group by one of them, nothing else of
/// another scope. Raises 42501 when the caller may not read what it reads.
void check_rows(Query* query);

/// Raises 0A000 for an aggregate, of the query itself, that cannot be computed in parts.
void check_aggregate(const Aggref* aggregate);

/// Stable functions of constants, replaced by their values at this moment, but for those of
/// PostgreSQL's own that depend on nothing but settings, which shards have from us. 0A000 for
/// volatile ones.
Query* with_stable_values(Query* query);

/// Raises 0A000 for what with_stable_values could not replace in the part for the shards.
void check_shard_functions(Query* query);

}  // namespace order_proc
