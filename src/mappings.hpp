// User mappings of a foreign server, for what must be done on a shard in the name of others: a
// prepared transaction is ended by the role that prepared it.
#pragma once

#include "remote/connection.hpp"

namespace order_proc {

struct Mapping {
  Oid user;  ///< InvalidOid: PUBLIC
  const char* remote_user;
};

/// All of them, in the caller's memory: those of the current user and of `owner` first, superusers
/// next.
std::span<const Mapping> mappings_of(Oid server, Oid owner);

}  // namespace order_proc
