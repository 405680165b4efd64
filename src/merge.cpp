#include "merge.hpp"

#include "consistent_cut.hpp"
#include "pg/arrays.hpp"
#include "pg/srf.hpp"

extern "C" {
#include "utils/varlena.h"
}

namespace order_proc {

namespace {

constexpr std::size_t most_columns = 16;

/// The rows of one shard, one at a time.
struct Stream {
  remote::Connection* connection;
  MemoryContext memory;  ///< of the present row
  bool done;
  std::array<Datum, most_columns> values;
  std::array<bool, most_columns> nulls;
};

void advance(Stream& stream, RemoteCall& call, TupleDesc descriptor) {
  MemoryContextReset(stream.memory);
  const MemoryContext saved = MemoryContextSwitchTo(stream.memory);
  const auto row = call.next(*stream.connection);
  stream.done = !row;
  if (row) {
    HeapTupleHeader const record = DatumGetHeapTupleHeader(row->datum);
    HeapTupleData tuple{};
    tuple.t_len = HeapTupleHeaderGetDatumLength(record);
    tuple.t_data = record;
    heap_deform_tuple(&tuple, descriptor, stream.values.data(), stream.nulls.data());
  }
  MemoryContextSwitchTo(saved);
}

std::span<Stream> make_streams(std::span<remote::Connection* const> connections) {
  auto* const streams = static_cast<Stream*>(palloc0(sizeof(Stream) * (connections.size() + 1)));
  for (std::size_t i = 0; i < connections.size(); ++i) {
    streams[i].connection = connections[i];
    streams[i].memory =
        AllocSetContextCreate(CurrentMemoryContext, "order_proc shard's row", ALLOCSET_SMALL_SIZES);
  }
  return {streams, connections.size()};
}

int column_of(TupleDesc descriptor, const char* name) {
  return SPI_fnumber(descriptor, name) - 1;
}

/// Whether the first row comes before the second.
bool newer(const Stream& a, const Stream& b, std::size_t created_at, std::size_t id) {
  const TimestampTz a_time = DatumGetTimestampTz(a.values[created_at]);
  const TimestampTz b_time = DatumGetTimestampTz(b.values[created_at]);
  if (a_time != b_time) return a_time > b_time;
  return DatumGetInt64(a.values[id]) > DatumGetInt64(b.values[id]);
}

/// Connections to all shards, for reads that see one cut.
std::span<remote::Connection*> connect_to_read(const Cluster& cluster) {
  const std::span<remote::Connection*> connections = connect_all(cluster, true);
  (void)take_cut(connections, OnFailure::error);
  return connections;
}

/// The stream whose row is the next; null when all are at their ends.
Stream* newest(std::span<Stream> streams, std::size_t created_at, std::size_t id) {
  Stream* first = nullptr;
  for (Stream& stream : streams)
    if (!stream.done && (first == nullptr || newer(stream, *first, created_at, id)))
      first = &stream;
  return first;
}

/// Reads what is left, so that the connections are free again.
void drain(std::span<Stream> streams, RemoteCall& call, TupleDesc descriptor) {
  for (Stream& stream : streams)
    while (!stream.done) advance(stream, call, descriptor);
}

}  // namespace

Datum merge_newest(FunctionCallInfo fcinfo, RemoteCall& call, const Cluster& cluster, int64 skip,
                   int64 limit) {
  const pg::ResultSet results(fcinfo);
  const TupleDesc descriptor = results.descriptor();
  const std::span<Stream> streams = make_streams(connect_to_read(cluster));
  for (const Stream& stream : streams) call.start(*stream.connection);
  for (Stream& stream : streams) advance(stream, call, descriptor);
  const auto created_at = static_cast<std::size_t>(column_of(descriptor, "created_at"));
  const auto id = static_cast<std::size_t>(column_of(descriptor, "id"));
  for (int64 row = 0; limit < 0 || row < skip + limit; ++row) {
    CHECK_FOR_INTERRUPTS();
    Stream* const next = newest(streams, created_at, id);
    if (next == nullptr) break;
    if (row >= skip) results.add(next->values.data(), next->nulls.data());
    advance(*next, call, descriptor);
  }
  drain(streams, call, descriptor);
  return results.done();
}

Datum merge_orders(FunctionCallInfo fcinfo, const Cluster& cluster, std::span<const int64> ids) {
  const pg::ResultSet results(fcinfo);
  const TupleDesc descriptor = results.descriptor();
  RemoteCall call(fcinfo, remote::Use::read);
  const auto connections = connect_to_read(cluster);
  const std::span<Stream> streams = make_streams(connections);
  auto* const part =
      static_cast<int64*>(palloc_extended(sizeof(int64) * (ids.size() + 1), MCXT_ALLOC_HUGE));
  for (Stream& stream : streams) {
    std::size_t count = 0;
    for (const int64 id : ids)
      if (shard_of_order(cluster, id).shard_id == stream.connection->shard_id) part[count++] = id;
    stream.done = count == 0;
    if (stream.done) continue;
    call.set(0, pg::Value(
                    pg::make_array<int64>(count, INT8OID, [&](std::size_t i) { return part[i]; })));
    call.start(*stream.connection);
  }
  end_unused_cut(connections);
  for (Stream& stream : streams)
    if (!stream.done) advance(stream, call, descriptor);
  const auto id_column = static_cast<std::size_t>(column_of(descriptor, "id"));
  for (const int64 id : ids) {
    CHECK_FOR_INTERRUPTS();
    Stream& stream = streams[static_cast<std::size_t>(shard_of_order(cluster, id).shard_id)];
    // A shard answers in the order asked for, without those that it does not know.
    if (stream.done || DatumGetInt64(stream.values[id_column]) != id) continue;
    results.add(stream.values.data(), stream.nulls.data());
    advance(stream, call, descriptor);
  }
  drain(streams, call, descriptor);
  return results.done();
}

namespace {

struct Count {
  text* status;
  int64 orders;
};

int compare_texts(const text* a, const text* b) {
  const std::string_view left = pg::view(a);
  const std::string_view right = pg::view(b);
  return varstr_cmp(left.data(), static_cast<int>(left.size()), right.data(),
                    static_cast<int>(right.size()), DEFAULT_COLLATION_OID);
}

}  // namespace

Datum merge_counts(FunctionCallInfo fcinfo, const Cluster& cluster) {
  const pg::ResultSet results(fcinfo);
  const TupleDesc descriptor = results.descriptor();
  RemoteCall call(fcinfo, remote::Use::read);
  const std::span<Stream> streams = make_streams(connect_to_read(cluster));
  for (const Stream& stream : streams) call.start(*stream.connection);
  std::size_t room = 64;
  std::size_t count = 0;
  auto* counts = static_cast<Count*>(palloc(sizeof(Count) * room));
  for (Stream& stream : streams)
    for (advance(stream, call, descriptor); !stream.done; advance(stream, call, descriptor)) {
      const text* const status = DatumGetTextPP(stream.values[0]);
      const int64 orders = DatumGetInt64(stream.values[1]);
      const auto known = std::find_if(counts, counts + count, [&](const Count& c) {
        return pg::view(c.status) == pg::view(status);
      });
      if (known != counts + count) {
        known->orders += orders;
        continue;
      }
      if (count == room) {
        room *= 2;
        counts = static_cast<Count*>(repalloc(counts, sizeof(Count) * room));
      }
      counts[count++] = {DatumGetTextPCopy(stream.values[0]), orders};
    }
  std::sort(counts, counts + count,
            [](const Count& a, const Count& b) { return compare_texts(a.status, b.status) < 0; });
  for (std::size_t i = 0; i < count; ++i)
    results.add(
        {pg::Value(PointerGetDatum(counts[i].status)), pg::Value(Int64GetDatum(counts[i].orders))});
  return results.done();
}

}  // namespace order_proc
