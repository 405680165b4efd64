// Batches of items: the rows of a call, what is wrong with them, and how they get to the shards.
#pragma once

#include "pg/args.hpp"
#include "routing.hpp"

namespace order_proc {

/// The rows as they came in.
struct Batch {
  pg::Elements<int64> order_ids;
  pg::Elements<int64> product_ids;
  pg::Elements<int32> quantities;
  pg::Elements<Datum> prices;

  std::size_t size() const { return order_ids.size(); }
};

/// Why a row cannot be inserted.
struct Fault {
  uint32 row;  ///< from 0
  int sqlstate;
  const char* message;
  const char* constraint = nullptr;  ///< the one of order_items that would refuse it
};

/// Faults of a chunk, by row.
struct Faults {
  Fault* list;
  std::size_t count;

  void add(const Fault& fault) { list[count++] = fault; }
};

struct Chunk {
  int number;  ///< from 1
  uint32 first;
  uint32 end;

  std::size_t size() const { return end - first; }
};

/// Inserts the rows (positions in the batch) on their shards, all at once; those that a shard
/// leaves out are added to the faults. Returns how many went in.
int64 insert_on_shards(FunctionCallInfo fcinfo, const Cluster& cluster, const Batch& batch,
                       std::span<const uint32> rows, Faults& faults);

/// The same, all or nothing: with faults added, the caller has to fail. What only the insert
/// revealed is raised as the shard raised it.
int64 insert_all_on_shards(FunctionCallInfo fcinfo, const Cluster& cluster, const Batch& batch,
                           std::span<const uint32> rows, Faults& faults);

}  // namespace order_proc
