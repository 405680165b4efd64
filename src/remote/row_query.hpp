// Queries of one row, for what is asked of a shard once in a while: parsed each time, text as it
// comes. A row is there between take_row and end_row.
#pragma once

#include "remote/transaction.hpp"

namespace order_proc::remote {

void start_row(Connection& connection, Use use, const char* query,
               std::span<const char* const> values = {});

/// Waits; raises what the shard says instead of a result. The result may have no row.
const PGresult* take_row(Connection& connection);

void end_row(Connection& connection);

/// In the transaction, of one shard.
const PGresult* ask_row(Connection& connection, const char* query,
                        std::span<const char* const> values = {});

}  // namespace order_proc::remote
