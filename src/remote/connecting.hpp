// Between the connections that a session keeps (connection.cpp) and how they are made.
#pragma once

#include "remote/connection.hpp"

namespace order_proc::remote {

/// Opens those that are not, all at once, within order_proc.connect_timeout. `unreachable` as in
/// connect; those that are null are left so.
void open(std::span<Connection*> wanted, std::span<const char*> unreachable);

/// What the session on the shard had is gone with it.
void forget_session(Connection& connection);

/// Opens these, which are closed, all at once, to see whether there is an answer within
/// order_proc.connect_timeout, be it a refusal; and closes them. True as well where it could not
/// be tried.
void try_out(std::span<Connection* const> wanted, std::span<bool> answered);

}  // namespace order_proc::remote
