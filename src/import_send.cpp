// Sending chunks to the shards and taking their answers: while a shard writes one, the next is
// filled; what became of its orders comes back by their place in the chunk.
//
// On ERROR the connections that are busy are closed, and the shards roll back.
#include "import_send.hpp"

#include "pg/error.hpp"
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

/// The statuses as they are sent.
const char* status_array(const Import& import) {
  auto* const values =
      static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<Size>(import.status_count + 1)));
  for (int i = 0; i < import.status_count; ++i) values[i] = PointerGetDatum(import.statuses[i]);
  return OidOutputFunctionCall(
      F_ARRAY_OUT, PointerGetDatum(construct_array(values, import.status_count, TEXTOID, -1, false,
                                                   TYPALIGN_INT)));
}

}  // namespace

Sender make_sender(Import& import) {
  Sender sender{};
  sender.import = &import;
  sender.connections = connect_all(*import.cluster, false);
  const std::size_t count = sender.connections.size();
  sender.most_lines = std::clamp<std::size_t>(lines_together / count, 256, 8192);
  sender.most_raw_bytes =
      std::clamp<std::size_t>(raw_bytes_together / count, 16 * 1024, 1024 * 1024);
  sender.parts = {static_cast<Part*>(palloc(sizeof(Part) * count)), count};
  for (std::size_t i = 0; i < count; ++i)
    sender.parts[i] = {sender.connections[i], make_chunk(sender.most_lines),
                       make_chunk(sender.most_lines)};
  sender.statuses = status_array(import);
  const TupleDesc descriptor = CreateTemplateTupleDesc(2);
  TupleDescInitEntry(descriptor, 1, "line", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "raw", TEXTOID, -1, 0);
  sender.raw_slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
  sender.scratch =
      AllocSetContextCreate(import.memory, "order_proc routed line", ALLOCSET_DEFAULT_SIZES);
  return sender;
}

std::string_view raw_of(const Chunk& chunk, std::size_t line) {
  const uint32 start = line == 0 ? 0 : chunk.raw_ends[line - 1];
  return {chunk.raws.data + start, chunk.raw_ends[line] - start};
}

namespace {

/// Calls `use` with number and text of each line of the order.
template <typename F>
void for_each_line(const Sender& sender, const Chunk& chunk, const SentOrder& order, F&& use) {
  if (order.spilled != nullptr) {
    tuplestore_rescan(order.spilled);
    while (tuplestore_gettupleslot(order.spilled, true, false, sender.raw_slot)) {
      CHECK_FOR_INTERRUPTS();
      slot_getallattrs(sender.raw_slot);
      use(DatumGetInt64(sender.raw_slot->tts_values[0]),
          pg::view(DatumGetTextPP(sender.raw_slot->tts_values[1])));
    }
  }
  for (std::size_t i = order.first_line; i < order.first_line + order.line_count; ++i)
    use(chunk.numbers[i], raw_of(chunk, i));
}

}  // namespace

void reject_lines(const Sender& sender, const Chunk& chunk, const SentOrder& order, int sqlstate,
                  const char* message) {
  for_each_line(sender, chunk, order, [&](int64 number, std::string_view raw) {
    const MemoryContext saved = MemoryContextSwitchTo(sender.scratch);
    reject_line(*sender.import, {number, sqlstate, message, raw});
    MemoryContextSwitchTo(saved);
    MemoryContextReset(sender.scratch);
  });
}

namespace {

/// An order that the shard did not make.
void take_outcome(Sender& sender, Chunk& chunk, const PGresult* result, int row) {
  const auto number = static_cast<std::size_t>(strtoul(remote::cell(result, row, 0), nullptr, 10));
  if (number >= chunk.order_count || !chunk.orders[number].at_end) return;
  SentOrder& order = chunk.orders[number];
  order.told = true;
  if (*remote::cell(result, row, 1) == 't') {
    ++sender.import->counts.known;
    return;
  }
  const char* const state = remote::cell(result, row, 2);
  if (strlen(state) != 5) return;
  reject_lines(sender, chunk, order,
               MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]),
               remote::cell(result, row, 3));
}

void count_made(Sender& sender, const Chunk& chunk) {
  for (std::size_t i = 0; i < chunk.order_count; ++i) {
    const SentOrder& order = chunk.orders[i];
    if (!order.at_end) continue;
    if (order.spilled != nullptr) tuplestore_end(order.spilled);
    if (order.told) continue;
    ++sender.import->counts.orders;
    sender.import->counts.items += order.count;
  }
}

/// Takes what has come of the shard's answer; true when it is not busy (any more).
bool take_answer(Sender& sender, Part& part) {
  while (part.connection->in_flight) {
    const auto result = remote::result_if_any(*part.connection);
    if (!result) return false;
    if (*result == nullptr) break;
    for (int row = 0; row < PQntuples(*result); ++row)
      take_outcome(sender, *part.sent, *result, row);
  }
  remote::raise_error(*part.connection);
  count_made(sender, *part.sent);
  empty(*part.sent);
  return true;
}

}  // namespace

void send_chunk(const Sender& sender, Part& part) {
  const Chunk& chunk = *part.filling;
  constexpr std::array<Oid, 3> types{BYTEAOID, TEXTARRAYOID, TEXTOID};
  const std::array<const char*, 3> values{chunk.bytes.data, sender.statuses, on_error_name()};
  const std::array<int, 3> lengths{chunk.bytes.len, 0, 0};
  constexpr std::array<int, 3> formats{1, 0, 0};
  remote::begin(*part.connection, remote::Use::write);
  remote::queue(*part.connection, send_orders, remote::Step::call,
                {types, values, lengths, formats});
  remote::send(*part.connection);
  std::swap(part.filling, part.sent);
}

bool full_by(const Sender& sender, const Chunk& chunk, std::size_t quarters) {
  return chunk.line_count * 4 >= sender.most_lines * quarters ||
         static_cast<std::size_t>(chunk.raws.len) * 4 >= sender.most_raw_bytes * quarters;
}

void keep_busy(Sender& sender, const Part* in_hand) {
  for (Part& part : sender.parts)
    if (take_answer(sender, part) && &part != in_hand && full_by(sender, *part.filling, 2))
      send_chunk(sender, part);
}

void wait_for(Sender& sender, Part& part) {
  while (!take_answer(sender, part)) {
    (void)remote::wait_for_any(sender.connections, remote::Interrupts::serve, remote::never);
    keep_busy(sender, &part);
  }
}

void send_rest(Sender& sender) {
  for (Part& part : sender.parts) {
    if (part.filling->order_count == 0) continue;
    wait_for(sender, part);
    send_chunk(sender, part);
  }
  for (Part& part : sender.parts) wait_for(sender, part);
}

}  // namespace order_proc
