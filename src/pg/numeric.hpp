// numeric without the fmgr: amounts with at most two decimals as a count of hundredths, read
// straight from the on-disk format (a header of sign, scale and weight, then base-10000 digits),
// which pg_upgrade keeps stable. What does not fit answers nullopt, and the caller takes
// PostgreSQL's own functions.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

struct Hundredths {
  int64 count;
  int scale;  ///< display scale: 2 for a stored numeric(p,2)
};

/// nullopt for NaN, infinities, more than two decimals, and 10^16 and beyond. `value` may have a
/// short header.
std::optional<Hundredths> to_hundredths(Datum value);

/// The numeric with display scale 2.
Datum from_hundredths(int64 count);

/// What a column numeric(p,s) of type modifier `typmod` stores for `value`; 22003 beyond its range.
Datum rounded_to(Datum value, int32 typmod);

/// make_numeric_typmod of core: numeric(precision, scale).
constexpr int32 numeric_typmod(int precision, int scale) {
  return ((precision << 16) | (scale & 0x7ff)) + VARHDRSZ;
}

}  // namespace order_proc::pg
