// Random numbers that nobody can foretell.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "port.h"
}

namespace order_proc::pg {

/// From a store that is filled once for many: the operating system's are dear.
inline uint64 random_bits() {
  static std::array<uint64, 64> store;
  static std::size_t left = 0;
  // What a process had before it forked is known to its children.
  static int owner = 0;
  if (left == 0 || owner != MyProcPid) {
    if (!pg_strong_random(store.data(), sizeof store))
      ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number"));
    left = store.size();
    owner = MyProcPid;
  }
  return std::exchange(store[--left], 0);
}

}  // namespace order_proc::pg
