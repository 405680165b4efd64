// The coordinator's part of an import over shards: the sorted lines go to the shards of their
// customers in chunks. While a shard writes one, the next is filled; what became of its orders
// comes back by their place in the chunk. Customers have been looked up before
// (import_customers.cpp).
//
// Memory: for each shard two chunks, which are the smaller the more shards there are, under the
// import's context. An order larger than a chunk goes in pieces; until its outcome is known its
// lines wait in a tuplestore (then on disk). On ERROR the connections that are busy are closed, and
// the shards roll back.
#include "core/import_chunk.hpp"
#include "import_batch.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"

namespace order_proc {

namespace {

/// Of all shards together, lines and bytes of lines as they came, in chunks being filled.
constexpr std::size_t lines_together = 65536;
constexpr std::size_t raw_bytes_together = 8 * 1024 * 1024;

remote::Statement send_orders{
    "SELECT o.order_number, o.known, o.sqlstate, o.message "
    "FROM order_proc.import_orders($1, $2, $3) AS o"};

const char* on_error_name() {
  switch (import_on_error) {
    case import_abort:
      return "abort";
    case import_skip_order:
      return "skip_order";
    default:
      return "skip_row";
  }
}

// --- chunks ----------------------------------------------------------------------------------

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

struct Router {
  Import* import;
  std::span<remote::Connection*> connections;
  std::span<Part> parts;
  std::size_t most_lines;  ///< of a chunk
  std::size_t most_raw_bytes;
  const char* statuses;      ///< as an array's text
  TupleTableSlot* raw_slot;  ///< number and raw line
  MemoryContext scratch;
  Making making;
};

Chunk* make_chunk(std::size_t lines) {
  auto* const chunk = static_cast<Chunk*>(palloc0(sizeof(Chunk)));
  initStringInfo(&chunk->bytes);
  initStringInfo(&chunk->raws);
  chunk->orders = static_cast<SentOrder*>(palloc(sizeof(SentOrder) * (lines + 1)));
  chunk->numbers = static_cast<int64*>(palloc(sizeof(int64) * lines));
  chunk->raw_ends = static_cast<uint32*>(palloc(sizeof(uint32) * lines));
  return chunk;
}

void empty(Chunk& chunk) {
  resetStringInfo(&chunk.bytes);
  resetStringInfo(&chunk.raws);
  chunk.order_count = chunk.line_count = 0;
}

std::string_view raw_of(const Chunk& chunk, std::size_t line) {
  const uint32 start = line == 0 ? 0 : chunk.raw_ends[line - 1];
  return {chunk.raws.data + start, chunk.raw_ends[line] - start};
}

/// Calls `use` with number and text of each line of the order.
template <typename F>
void for_each_line(const Router& router, const Chunk& chunk, const SentOrder& order, F&& use) {
  if (order.spilled != nullptr) {
    tuplestore_rescan(order.spilled);
    while (tuplestore_gettupleslot(order.spilled, true, false, router.raw_slot)) {
      CHECK_FOR_INTERRUPTS();
      slot_getallattrs(router.raw_slot);
      use(DatumGetInt64(router.raw_slot->tts_values[0]),
          pg::view(DatumGetTextPP(router.raw_slot->tts_values[1])));
    }
  }
  for (std::size_t i = order.first_line; i < order.first_line + order.line_count; ++i)
    use(chunk.numbers[i], raw_of(chunk, i));
}

void reject_lines(const Router& router, const Chunk& chunk, const SentOrder& order, int sqlstate,
                  const char* message) {
  for_each_line(router, chunk, order, [&](int64 number, std::string_view raw) {
    const MemoryContext saved = MemoryContextSwitchTo(router.scratch);
    reject_line(*router.import, {number, sqlstate, message, raw});
    MemoryContextSwitchTo(saved);
    MemoryContextReset(router.scratch);
  });
}

// --- answers ---------------------------------------------------------------------------------

/// An order that the shard did not make.
void take_outcome(Router& router, Chunk& chunk, const PGresult* result, int row) {
  const auto number = static_cast<std::size_t>(strtoul(PQgetvalue(result, row, 0), nullptr, 10));
  if (number >= chunk.order_count || !chunk.orders[number].at_end) return;
  SentOrder& order = chunk.orders[number];
  order.told = true;
  if (*PQgetvalue(result, row, 1) == 't') {
    ++router.import->counts.known;
    return;
  }
  const char* const state = PQgetvalue(result, row, 2);
  if (strlen(state) != 5) return;
  reject_lines(router, chunk, order,
               MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]),
               PQgetvalue(result, row, 3));
}

void count_made(Router& router, const Chunk& chunk) {
  for (std::size_t i = 0; i < chunk.order_count; ++i) {
    const SentOrder& order = chunk.orders[i];
    if (!order.at_end) continue;
    if (order.spilled != nullptr) tuplestore_end(order.spilled);
    if (order.told) continue;
    ++router.import->counts.orders;
    router.import->counts.items += order.count;
  }
}

/// Takes what has come of the shard's answer; true when it is not busy (any more).
bool take_answer(Router& router, Part& part) {
  while (part.connection->in_flight) {
    const auto result = remote::result_if_any(*part.connection);
    if (!result) return false;
    if (*result == nullptr) break;
    for (int row = 0; row < PQntuples(*result); ++row)
      take_outcome(router, *part.sent, *result, row);
  }
  remote::raise_error(*part.connection);
  count_made(router, *part.sent);
  empty(*part.sent);
  return true;
}

void send_chunk(const Router& router, Part& part) {
  const Chunk& chunk = *part.filling;
  constexpr std::array<Oid, 3> types{BYTEAOID, TEXTARRAYOID, TEXTOID};
  const std::array<const char*, 3> values{chunk.bytes.data, router.statuses, on_error_name()};
  const std::array<int, 3> lengths{chunk.bytes.len, 0, 0};
  constexpr std::array<int, 3> formats{1, 0, 0};
  remote::begin(*part.connection, remote::Use::write);
  remote::queue(*part.connection, send_orders, remote::Step::call,
                {types, values, lengths, formats});
  remote::send(*part.connection);
  std::swap(part.filling, part.sent);
}

bool full_by(const Router& router, const Chunk& chunk, std::size_t quarters) {
  return chunk.line_count * 4 >= router.most_lines * quarters ||
         static_cast<std::size_t>(chunk.raws.len) * 4 >= router.most_raw_bytes * quarters;
}

/// Gives shards that are not busy their chunks, once these are large enough to be worth a call;
/// not the one that the caller has in hand.
void keep_busy(Router& router, const Part* in_hand) {
  for (Part& part : router.parts)
    if (take_answer(router, part) && &part != in_hand && full_by(router, *part.filling, 2))
      send_chunk(router, part);
}

/// Waits until the shard is not busy; the others are served meanwhile.
void wait_for(Router& router, Part& part) {
  while (!take_answer(router, part)) {
    (void)remote::wait_for_any(router.connections, remote::Interrupts::serve, remote::never);
    keep_busy(router, &part);
  }
}

// --- orders ----------------------------------------------------------------------------------

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

/// The statuses as they are sent.
const char* status_array(const Import& import) {
  auto* const values =
      static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(import.status_count + 1)));
  for (int i = 0; i < import.status_count; ++i) values[i] = PointerGetDatum(import.statuses[i]);
  return OidOutputFunctionCall(
      F_ARRAY_OUT, PointerGetDatum(construct_array(values, import.status_count, TEXTOID, -1, false,
                                                   TYPALIGN_INT)));
}

Router* make_router(Import& import) {
  auto* const router = static_cast<Router*>(palloc0(sizeof(Router)));
  router->import = &import;
  router->connections = connect_all(*import.cluster, false);
  const std::size_t count = router->connections.size();
  router->most_lines = std::clamp<std::size_t>(lines_together / count, 256, 8192);
  router->most_raw_bytes =
      std::clamp<std::size_t>(raw_bytes_together / count, 16 * 1024, 1024 * 1024);
  router->parts = {static_cast<Part*>(palloc(sizeof(Part) * count)), count};
  for (std::size_t i = 0; i < count; ++i)
    router->parts[i] = {router->connections[i], make_chunk(router->most_lines),
                        make_chunk(router->most_lines)};
  router->statuses = status_array(import);
  const TupleDesc descriptor = CreateTemplateTupleDesc(2);
  TupleDescInitEntry(descriptor, 1, "line", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "raw", TEXTOID, -1, 0);
  router->raw_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
  router->scratch =
      AllocSetContextCreate(import.memory, "order_proc routed line", ALLOCSET_DEFAULT_SIZES);
  return router;
}

void send_rest(Router& router) {
  for (Part& part : router.parts) {
    if (part.filling->order_count == 0) continue;
    wait_for(router, part);
    send_chunk(router, part);
  }
  for (Part& part : router.parts) wait_for(router, part);
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
