// Binary values between servers: send and receive functions convert to and from the client's
// encoding, but a shard speaks the encoding of the database.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Runs `body` with the client's encoding set to the database's.
template <typename F>
void with_database_encoding(F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  const int client = pg_get_client_encoding();
  if (client == GetDatabaseEncoding()) return body();
  PG_TRY();
  {
    (void)SetClientEncoding(GetDatabaseEncoding());
    body();
  }
  PG_FINALLY();
  {
    // An abort does not bring it back.
    (void)SetClientEncoding(client);
  }
  PG_END_TRY();
}

}  // namespace order_proc::pg
