// Between the connections that a session keeps (connection.cpp) and how they are made.
#pragma once

#include "remote/connection.hpp"

namespace order_proc::remote {

/// Opens those that are not, all at once, within order_proc.connect_timeout. `unreachable` as in
/// connect.
void open(std::span<Connection*> wanted, std::span<const char*> unreachable);

/// What the session on the shard had is gone with it.
void forget_session(Connection& connection);

/// What libpq says of a failure, which names host and user: null unless the caller may see the
/// server's options.
const char* reason(const Connection& connection);

}  // namespace order_proc::remote
