// Calls that are all of their transaction.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Whether the transaction ends when the call has returned: it is the one column of a SELECT that
/// reads no table and is no part of a transaction block, and the client has said that nothing
/// follows. False when that cannot be told.
bool is_whole_transaction(FunctionCallInfo call);

}  // namespace order_proc::pg
