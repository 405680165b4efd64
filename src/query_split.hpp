// A query with aggregates over the store, split: the part that runs on each shard and gives states,
// and the part that runs here and combines them.
//
// All of it lives in the current memory context; analysis locks the tables for reading until the
// end of the transaction, as any query does.
#pragma once

#include "partial_aggregates.hpp"

namespace order_proc {

struct SplitQuery {
  ShardHalf shard;
  Query* coordinator;  ///< reads the rows of the shards from a function
};

/// How the coordinator's part gets at the rows of the shards.
enum class RowSource {
  text,   ///< order_proc.fan_out, so that it reads as SQL that anybody with the rights may run
  inside  ///< functions with parameter $1, a ShardHalf; only our own code can make one
};

/// Parses and analyses `text` with the caller's search_path and rights, and splits it. What cannot
/// be split without changing its result is 0A000, by name.
SplitQuery split_query(const char* text, RowSource source);

/// `query` as text, names qualified, values readable under any settings.
const char* text_of(const Query* query);

}  // namespace order_proc
