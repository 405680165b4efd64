// Queries that need no fence around them.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc {

/// Whether a query, parsed but not analysed, can neither write nor set anything on a shard, whose
/// search_path is pg_catalog: it reads tables of the store and catalogues only, and calls no
/// functions but PostgreSQL's own that are not volatile. False when that is not plain to see.
bool is_harmless(Node* query);

}  // namespace order_proc
