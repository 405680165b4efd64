// A chunk of a batch over the shards: each gets the rows of its orders as a batch of its own, and
// tells what it left out; rows are numbered here.
//
// Memory: the chunk's rows once more, as arrays; freed with the chunk.
#include "batch.hpp"
#include "pg/error.hpp"
#include "pg/srf.hpp"
#include "remote/pipeline.hpp"

namespace order_proc {

namespace {

enum Argument { a_order_ids, a_product_ids, a_quantities, a_prices, a_chunk_size, a_on_error };

template <typename T>
T* allocate(std::size_t count) {
  return static_cast<T*>(palloc_extended(std::max<Size>(count, 1) * sizeof(T), MCXT_ALLOC_HUGE));
}

/// A shard's rows: positions in the batch.
struct Part {
  remote::Connection* connection;
  std::span<const uint32> rows;
};

/// The rows, shard by shard.
std::span<Part> split(const Cluster& cluster, const Batch& batch, std::span<const uint32> rows) {
  auto* const sorted = allocate<uint32>(rows.size());
  auto* const counts =
      static_cast<std::size_t*>(palloc0(sizeof(std::size_t) * (cluster.shard_count + 1)));
  const auto shard_of = [&](uint32 row) {
    return static_cast<std::size_t>(shard_of_order(cluster, batch.order_ids.values[row]).shard_id);
  };
  for (const uint32 row : rows) ++counts[shard_of(row)];
  auto* const parts = static_cast<Part*>(palloc0(sizeof(Part) * (cluster.shard_count + 1)));
  auto* const ends =
      static_cast<std::size_t*>(palloc0(sizeof(std::size_t) * (cluster.shard_count + 1)));
  std::size_t start = 0;
  for (std::size_t shard = 0; shard < cluster.shard_count; ++shard) {
    parts[shard].rows = {sorted + start, counts[shard]};
    ends[shard] = start;
    start += counts[shard];
  }
  for (const uint32 row : rows) sorted[ends[shard_of(row)]++] = row;
  const auto connections = connect_all(cluster, false);
  for (std::size_t shard = 0; shard < cluster.shard_count; ++shard)
    parts[shard].connection = connections[shard];
  return {parts, cluster.shard_count};
}

template <typename F>
pg::Value array_of(std::span<const uint32> rows, Oid type, int16 width, bool by_value, char align,
                   F&& value) {
  auto* const values = allocate<Datum>(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) values[i] = value(rows[i]);
  return pg::Value(PointerGetDatum(
      construct_array(values, static_cast<int>(rows.size()), type, width, by_value, align)));
}

void start(RemoteCall& call, const Batch& batch, const Part& part, const char* on_error) {
  const auto rows = part.rows;
  call.set(a_order_ids, array_of(rows, INT8OID, 8, true, TYPALIGN_DOUBLE, [&](uint32 row) {
             return Int64GetDatum(batch.order_ids.values[row]);
           }));
  call.set(a_product_ids, array_of(rows, INT8OID, 8, true, TYPALIGN_DOUBLE, [&](uint32 row) {
             return Int64GetDatum(batch.product_ids.values[row]);
           }));
  call.set(a_quantities, array_of(rows, INT4OID, 4, true, TYPALIGN_INT, [&](uint32 row) {
             return Int32GetDatum(batch.quantities.values[row]);
           }));
  call.set(a_prices, array_of(rows, NUMERICOID, -1, false, TYPALIGN_INT,
                              [&](uint32 row) { return batch.prices.values[row]; }));
  call.set(a_chunk_size, pg::Value(Int32GetDatum(static_cast<int32>(rows.size()))));
  call.set(a_on_error, pg::Value(CStringGetTextDatum(on_error)));
  call.start(*part.connection);
}

/// A row of batch_result as a shard sent it.
void take_result(Datum record, const Part& part, int64* inserted, Faults& faults) {
  HeapTupleHeader const row = DatumGetHeapTupleHeader(record);
  const auto field = [&](const char* name) {
    pg::Value value;
    value.datum = GetAttributeByName(row, name, &value.null);
    return value;
  };
  const pg::Value rejected = field("rejected_row");
  if (rejected.null) {
    *inserted += DatumGetInt64(field("inserted").datum);
    return;
  }
  const auto at = static_cast<std::size_t>(DatumGetInt64(rejected.datum) - 1);
  if (at >= part.rows.size()) return;
  const char* const state = TextDatumGetCString(field("sqlstate").datum);
  faults.add({part.rows[at], MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]),
              TextDatumGetCString(field("message").datum)});
}

/// The row that a shard's error names in its DETAIL, as this file's neighbour writes it.
std::optional<Fault> fault_of(const Part& part) {
  const PGresult* const error = part.connection->error;
  const char* const detail = PQresultErrorField(error, PG_DIAG_MESSAGE_DETAIL);
  unsigned row = 0;
  int length = 0;
  if (detail == nullptr || sscanf(detail, "Row %u of the batch.%n", &row, &length) != 1 ||
      length == 0 || row == 0 || row > part.rows.size())
    return std::nullopt;
  const char* const constraint = PQresultErrorField(error, PG_DIAG_CONSTRAINT_NAME);
  return Fault{part.rows[row - 1], remote::error_code(*part.connection),
               pstrdup(remote::error_message(*part.connection)),
               constraint == nullptr ? nullptr : pstrdup(constraint)};
}

}  // namespace

int64 insert_on_shards(FunctionCallInfo fcinfo, const Cluster& cluster, const Batch& batch,
                       std::span<const uint32> rows, Faults& faults) {
  RemoteCall call(fcinfo, remote::Use::write);
  const std::span<Part> parts = split(cluster, batch, rows);
  for (const Part& part : parts)
    if (!part.rows.empty()) start(call, batch, part, "skip_row");
  int64 inserted = 0;
  for (const Part& part : parts)
    if (!part.rows.empty())
      while (const auto row = call.next(*part.connection))
        take_result(row->datum, part, &inserted, faults);
  return inserted;
}

int64 insert_all_on_shards(FunctionCallInfo fcinfo, const Cluster& cluster, const Batch& batch,
                           std::span<const uint32> rows, Faults& faults) {
  RemoteCall call(fcinfo, remote::Use::write);
  const std::span<Part> parts = split(cluster, batch, rows);
  for (const Part& part : parts)
    if (!part.rows.empty()) start(call, batch, part, "abort");
  int64 inserted = 0;
  remote::Connection* other_error = nullptr;
  for (const Part& part : parts) {
    if (part.rows.empty()) continue;
    while (const auto row = call.next_or_error(*part.connection))
      take_result(row->datum, part, &inserted, faults);
    if (part.connection->error == nullptr && !part.connection->lost) continue;
    if (const auto fault = part.connection->error == nullptr ? std::nullopt : fault_of(part))
      faults.add(*fault);
    else if (other_error == nullptr)
      other_error = part.connection;
  }
  if (faults.count == 0 && other_error != nullptr) remote::raise_error(*other_error);
  return inserted;
}

}  // namespace order_proc
