// Chunks of sorted lines on their way from a coordinator to the shards, and what comes back of
// them. Filled by import_route.cpp.
//
// Memory: for each shard two chunks, which are the smaller the more shards there are, in the
// context of the import.
#pragma once

#include "import.hpp"
#include "remote/connection.hpp"

extern "C" {
#include "utils/tuplestore.h"
}

namespace order_proc {

/// An order in a chunk, or a piece of one.
struct SentOrder {
  uint32 first_line;
  uint32 line_count;
  int64 count;               ///< lines of the whole order
  Tuplestorestate* spilled;  ///< those of the pieces before
  bool at_end;               ///< the shard will say what became of it
  bool told;                 ///< it is not made
};

struct Chunk {
  StringInfoData bytes;
  SentOrder* orders;
  std::size_t order_count;
  int64* numbers;    ///< of the lines
  uint32* raw_ends;  ///< where they end in raws
  std::size_t line_count;
  StringInfoData raws;
};

struct Part {
  remote::Connection* connection;
  Chunk* filling;
  Chunk* sent;  ///< what the connection is busy with
};

struct Sender {
  Import* import;
  std::span<remote::Connection*> connections;
  std::span<Part> parts;
  std::size_t most_lines;  ///< of a chunk
  std::size_t most_raw_bytes;
  const char* statuses;      ///< as an array's text
  TupleTableSlot* raw_slot;  ///< number and raw line
  MemoryContext scratch;
};

/// Connects to all shards.
Sender make_sender(Import& import);

std::string_view raw_of(const Chunk& chunk, std::size_t line);

/// Rejects every line of the order.
void reject_lines(const Sender& sender, const Chunk& chunk, const SentOrder& order, int sqlstate,
                  const char* message);

/// Whether the chunk has that many quarters of what it may have.
bool full_by(const Sender& sender, const Chunk& chunk, std::size_t quarters);

/// Sends the chunk that was filled, to a shard that is not busy.
void send_chunk(const Sender& sender, Part& part);

/// Gives shards that are not busy their chunks, once these are large enough to be worth a call;
/// not the one that the caller has in hand.
void keep_busy(Sender& sender, const Part* in_hand);

/// Waits until the shard is not busy; the others are served meanwhile.
void wait_for(Sender& sender, Part& part);

/// Sends what has been filled and waits for all shards.
void send_rest(Sender& sender);

}  // namespace order_proc
