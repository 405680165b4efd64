// fan_out, for those of us who call it from C++.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc {

extern "C" {

/// order_proc.fan_out(query text, args text[], on_failure text): reads resultinfo's expected
/// columns.
PGDLLEXPORT Datum order_proc_fan_out(PG_FUNCTION_ARGS);

}  // extern "C"

}  // namespace order_proc
