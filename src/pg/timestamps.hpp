// Timestamps out of text without an ERROR for bad ones.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

struct ParsedTimestamp {
  int sqlstate;  ///< 0 when `value` holds
  TimestampTz value;
};

/// What timestamptz reads, by the session's TimeZone and DateStyle; 22007 for no timestamp, 22008
/// for one out of range.
ParsedTimestamp parse_timestamp(std::string_view text);

}  // namespace order_proc::pg
