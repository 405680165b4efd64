// Which server this is, as shards tell coordinators apart: the timeline of its log, which every
// promotion and every restore from an archive makes anew, and a number of its data directory, which
// no copy of the files shares.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::remote {

struct Incarnation {
  uint32 timeline;  ///< 0 on a standby
  int64 instance;
  friend bool operator==(const Incarnation&, const Incarnation&) = default;
};

Incarnation incarnation();

}  // namespace order_proc::remote
