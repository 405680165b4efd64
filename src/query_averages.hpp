// Averages as sum and count, which shards compute without a function of ours for each row.
#pragma once

#include "pg/query.hpp"

namespace order_proc {

/// Puts sum(x) / count(x) in place of avg(x) of numbers whose average is numeric, in the select
/// list and HAVING: the same division that avg makes, so with the same digits. One that the caller
/// may not run, or that cannot be split, stays, for the error to name it. Changes the query.
Query* with_averages_in_parts(Query* query);

}  // namespace order_proc
