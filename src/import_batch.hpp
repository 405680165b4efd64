// Orders of an import in the making: gathered to a batch by import_load.cpp, written by
// import_write.cpp.
#pragma once

#include "idempotency.hpp"
#include "import.hpp"
#include "pg/srf.hpp"

extern "C" {
#include "utils/tuplestore.h"
}

namespace order_proc {

inline constexpr int orders_per_batch = 500;
inline constexpr std::size_t items_per_batch = 16384;  ///< a batch is written when it has so many
inline constexpr std::size_t items_in_memory = 65536;  ///< of one order; more go to disk
inline constexpr std::size_t raw_bytes_per_batch = 8 * 1024 * 1024;
inline constexpr std::size_t spill_start = items_per_batch + items_in_memory;
inline constexpr std::size_t most_items = spill_start + items_per_batch;
inline constexpr int spill_memory = 1024;  ///< kB

/// What the look for its key says of an order.
enum class Fate { fresh, known, reused };

/// An order in the making.
struct Order {
  text* order_ref;
  int64 customer_id;
  int64 count;     ///< good lines
  int64 bad_line;  ///< the first bad one, 0 for none; only with skip_order
  int128 total;    ///< hundredths
  uint64 sums[2];  ///< of the lines' hashes: lines in another order are the same request
  TimestampTz created_at;
  bool has_created_at;
  int16 status;
  std::size_t first_item;
  std::size_t item_count;    ///< of those in memory
  Tuplestorestate* spilled;  ///< the others, as the sort had them
  IdempotencyKey key;
  int64 id;
  Fate fate;
  int32 number;                ///< on a shard: in its chunk
  const char* unknown_status;  ///< on a shard: one that a line has and we lack
};

struct Load {
  Import* import;
  bool all_or_nothing;            ///< what refuses an order is raised
  const pg::ResultSet* outcomes;  ///< on a shard: takes what is said of orders that are not made
  MemoryContext memory;           ///< of a batch
  int order_count;
  int ended;  ///< orders since the batch was emptied, rejected ones included
  std::size_t item_count;
  std::size_t raw_bytes;  ///< of the lines kept
  std::array<Order, orders_per_batch> orders;
  std::array<int64, most_items> lines;   ///< line numbers
  std::array<int64, most_items> prices;  ///< hundredths
  std::array<text*, most_items> raws;    ///< the lines as they came
  // What item_writer takes.
  std::array<int64, most_items> order_ids;
  std::array<int64, most_items> product_ids;
  std::array<int32, most_items> quantities;
  std::array<Datum, most_items> stored_prices;
};

struct SortedLine {
  text* order_ref;
  int64 number;
  LineData data;
  text* raw;  ///< null on a shard
};

/// The line in a slot of the sort, or of an order's lines on disk.
SortedLine line_in(TupleTableSlot* slot);

/// An empty one, in the memory of the import.
Load* make_load(Import& import);

/// Writes the batch when it is full; before an order begins.
void make_room(Load& load);

/// The order that comes behind those of the batch: its lines come next, then it is taken into the
/// batch or rejected as a whole.
void begin_order(Load& load, text* order_ref);
void add_line(Load& load, const SortedLine& line);
void end_order(Load& load);
/// Forgets it.
void drop_order(Load& load);

/// Rejects every line of the order.
void reject_order(Load& load, const Order& order, int sqlstate, const char* message);

/// Writes the batch, leaves out the orders that are known, and empties it.
void write_batch(Load& load);

}  // namespace order_proc
