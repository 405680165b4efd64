// Random numbers that nobody can foretell.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "port.h"
}

namespace order_proc::pg {

inline uint64 random_bits() {
  uint64 bits = 0;
  if (!pg_strong_random(&bits, sizeof bits))
    ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number"));
  return bits;
}

}  // namespace order_proc::pg
