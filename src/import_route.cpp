// The coordinator's part of an import over shards: the sorted lines go into chunks for the shards
// of their customers, which import_send.cpp sends. Customers have been looked up before
// (import_customers.cpp).
//
// Memory: of the import. An order larger than a chunk goes in pieces; until its outcome is known
// its lines wait in a tuplestore (then on disk).
#include "core/import_chunk.hpp"
#include "import_batch.hpp"
#include "import_send.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "remote/pipeline.hpp"

namespace order_proc {

namespace {

/// The order whose lines come.
struct Making {
  Part* part;  ///< null: no good line yet
  int64 customer_id;
  int64 bad_line;
  int64 count;
  std::size_t header;  ///< where it stands in the chunk
  std::size_t raw_start;
  std::uint8_t flags;
  Tuplestorestate* spilled;
  std::array<char, 256> order_ref;
  std::size_t ref_size;

  std::string_view ref() const { return {order_ref.data(), ref_size}; }
};

struct Router : Sender {
  Making making;
};

Router* make_router(Import& import) {
  auto* const router = static_cast<Router*>(palloc0(sizeof(Router)));
  static_cast<Sender&>(*router) = make_sender(import);
  return router;
}

SentOrder& sent_order(const Making& making) {
  Chunk& chunk = *making.part->filling;
  return chunk.orders[chunk.order_count - 1];
}

/// The order, or its next piece, begins in the chunk that is being filled.
void begin_in_chunk(Making& making, std::uint8_t flags) {
  Chunk& chunk = *making.part->filling;
  const std::string_view ref =
      (flags & core::ChunkOrder::continued) != 0 ? std::string_view{} : making.ref();
  making.flags = flags;
  making.header = static_cast<std::size_t>(chunk.bytes.len);
  making.raw_start = static_cast<std::size_t>(chunk.raws.len);
  const std::size_t size = core::chunk_order_size + ref.size();
  enlargeStringInfo(&chunk.bytes, static_cast<int>(size));
  core::put_chunk_order(chunk.bytes.data + chunk.bytes.len, {flags, making.customer_id, 0, ref});
  chunk.bytes.len += static_cast<int>(size);
  chunk.orders[chunk.order_count++] = {
      static_cast<uint32>(chunk.line_count), 0, 0, making.spilled, false, false};
}

void begin_order(Router& router, int64 customer_id) {
  Making& making = router.making;
  Part& part = router.parts[shard_of(*router.import, customer_id)];
  // Small orders stay in one piece.
  if (full_by(router, *part.filling, 3)) {
    wait_for(router, part);
    send_chunk(router, part);
  }
  making.part = &part;
  making.customer_id = customer_id;
  begin_in_chunk(making, 0);
}

void set_header(const Making& making, std::uint8_t flags, std::uint32_t lines) {
  core::set_chunk_order(making.part->filling->bytes.data + making.header, flags, lines);
}

/// Sends what there is of the order; its lines wait for the outcome of the whole.
void send_piece(Router& router) {
  Making& making = router.making;
  Part& part = *making.part;
  const SentOrder& order = sent_order(making);
  if (making.spilled == nullptr) {
    const MemoryContext saved = MemoryContextSwitchTo(router.import->memory);
    making.spilled = tuplestore_begin_heap(false, false, spill_memory);
    MemoryContextSwitchTo(saved);
  }
  const Chunk& chunk = *part.filling;
  const MemoryContext saved = MemoryContextSwitchTo(router.scratch);
  for (std::size_t i = order.first_line; i < order.first_line + order.line_count; ++i) {
    const std::string_view raw = raw_of(chunk, i);
    ExecClearTuple(router.raw_slot);
    router.raw_slot->tts_values[0] = Int64GetDatum(chunk.numbers[i]);
    router.raw_slot->tts_values[1] =
        PointerGetDatum(cstring_to_text_with_len(raw.data(), static_cast<int>(raw.size())));
    std::fill_n(router.raw_slot->tts_isnull, 2, false);
    ExecStoreVirtualTuple(router.raw_slot);
    tuplestore_puttupleslot(making.spilled, router.raw_slot);
  }
  ExecClearTuple(router.raw_slot);
  MemoryContextSwitchTo(saved);
  MemoryContextReset(router.scratch);
  set_header(making, making.flags | core::ChunkOrder::unfinished, order.line_count);
  wait_for(router, part);
  send_chunk(router, part);
  begin_in_chunk(making, core::ChunkOrder::continued);
}

void add_to_chunk(Router& router, const SortedLine& line) {
  Making& making = router.making;
  if (full_by(router, *making.part->filling, 4)) send_piece(router);
  Chunk& chunk = *making.part->filling;
  enlargeStringInfo(&chunk.bytes, core::chunk_line_size);
  core::put_chunk_line(chunk.bytes.data + chunk.bytes.len,
                       {line.data.product_id, line.data.price, line.data.created_at,
                        line.data.quantity, line.data.status, line.data.has_created_at});
  chunk.bytes.len += static_cast<int>(core::chunk_line_size);
  const std::string_view raw = pg::view(line.raw);
  appendBinaryStringInfo(&chunk.raws, raw.data(), static_cast<int>(raw.size()));
  chunk.numbers[chunk.line_count] = line.number;
  chunk.raw_ends[chunk.line_count++] = static_cast<uint32>(chunk.raws.len);
  ++sent_order(making).line_count;
  ++making.count;
}

void add_line(Router& router, const SortedLine& line) {
  Making& making = router.making;
  if (line.data.bad) {
    if (making.bad_line == 0) making.bad_line = line.number;
    return;
  }
  if (making.part == nullptr) begin_order(router, line.data.customer_id);
  if (line.data.customer_id == making.customer_id) return add_to_chunk(router, line);
  if (import_on_error == import_skip_order && making.bad_line == 0) making.bad_line = line.number;
  const MemoryContext saved = MemoryContextSwitchTo(router.scratch);
  reject_line(*router.import,
              {line.number, ERRCODE_INVALID_PARAMETER_VALUE,
               wrong_customer(making.ref(), making.customer_id, line.data.customer_id),
               pg::view(line.raw)});
  MemoryContextSwitchTo(saved);
  MemoryContextReset(router.scratch);
}

/// Takes an order with a bad line out of the chunk again.
void leave_out(Router& router) {
  Making& making = router.making;
  Chunk& chunk = *making.part->filling;
  SentOrder& order = sent_order(making);
  const char* const message = order_is_bad(making.ref(), making.bad_line);
  reject_lines(router, chunk, order, ERRCODE_DATA_EXCEPTION, message);
  chunk.line_count = order.first_line;
  chunk.raws.len = static_cast<int>(making.raw_start);
  if (making.spilled == nullptr) {
    chunk.bytes.len = static_cast<int>(making.header);
    --chunk.order_count;
    return;
  }
  // The shard has pieces of it.
  tuplestore_end(making.spilled);
  order = {order.first_line, 0, 0, nullptr, false, false};
  chunk.bytes.len = static_cast<int>(making.header + core::chunk_order_size);
  set_header(making, making.flags | core::ChunkOrder::dropped, 0);
}

void end_order(Router& router) {
  Making& making = router.making;
  if (making.part != nullptr && making.bad_line != 0) leave_out(router);
  if (making.part != nullptr && making.bad_line == 0) {
    SentOrder& order = sent_order(making);
    set_header(making, making.flags, order.line_count);
    order.count = making.count;
    order.at_end = true;
  }
  making.part = nullptr;
}

void next_order(Router& router, std::string_view order_ref) {
  Making& making = router.making;
  making.customer_id = making.bad_line = making.count = 0;
  making.spilled = nullptr;
  making.ref_size = std::min(order_ref.size(), making.order_ref.size());
  std::copy_n(order_ref.begin(), making.ref_size, making.order_ref.begin());
}

void route_lines(Router& router) {
  Import& import = *router.import;
  bool in_order = false;
  int64 loaded = 0;
  while (tuplesort_gettupleslot(import.lines, true, false, import.line_slot, nullptr)) {
    if ((++loaded & 0x3FF) == 0) {
      CHECK_FOR_INTERRUPTS();
      report_progress(import, loaded);
      // What libpq holds goes on its way, answers are taken.
      (void)remote::wait_for_any(router.connections, remote::Interrupts::serve,
                                 GetCurrentTimestamp());
      keep_busy(router, router.making.part);
    }
    const SortedLine line = line_in(import.line_slot);
    if (!in_order || router.making.ref() != pg::view(line.order_ref)) {
      if (in_order) end_order(router);
      next_order(router, pg::view(line.order_ref));
      in_order = true;
    }
    add_line(router, line);
  }
  if (in_order) end_order(router);
  send_rest(router);
  report_progress(import, loaded);
}

}  // namespace

void load_on_shards(Import& import) {
  // Of two imports at once each may have the keys first that the other waits for, on different
  // shards, where no server sees it: so they load one after the other.
  pg::with_lock(pg::LockKind::import_over_shards, 0, [&] { route_lines(*make_router(import)); });
}

}  // namespace order_proc
