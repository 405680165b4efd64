// shard_status: what the shards tell of themselves, asked all at once. One that hangs is waited for
// no longer than for a connection.
#include "pg/args.hpp"
#include "pg/srf.hpp"
#include "prepared.hpp"
#include "remote/pipeline.hpp"
#include "remote/transaction.hpp"
#include "routing.hpp"

namespace order_proc {

namespace {

constexpr const char* state_query =
    "SELECT (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname "
    "OPERATOR(pg_catalog.=) 'order_proc'), order_proc.schema_version(), "
    "(SELECT COALESCE(pg_catalog.sum(c.orders), 0) FROM order_proc.order_counts() AS c), "
    "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xacts AS p "
    "WHERE " ORDER_PROC_PREPARED_BY_US ")";

pg::Value text_value(const PGresult* result, int column) {
  if (PQgetisnull(result, 0, column) == 1) return {};
  return pg::Value(CStringGetTextDatum(remote::cell(result, 0, column)));
}

pg::Value count_value(const PGresult* result, int column) {
  return pg::Value(Int64GetDatum(strtoll(remote::cell(result, 0, column), nullptr, 10)));
}

/// A shard that is asked for its state.
struct StateAsked {
  remote::Connection* connection;  ///< null: it cannot be reached
  TimestampTz start;
  std::array<pg::Value, 8> row;
  bool over;
};

NameData named(Oid server) {
  NameData name;
  namestrcpy(&name, remote::server_name(server));
  return name;
}

void ask_for_state(StateAsked& asked, const remote::Target& target, const char* pattern) {
  asked.row[0] = pg::Value(Int32GetDatum(target.shard_id));
  // As the store names it: the foreign server may be gone.
  auto* const name = static_cast<NameData*>(palloc(sizeof(NameData)));
  *name =
      remote::server_exists(target.server) ? named(target.server) : server_name_of(target.shard_id);
  asked.row[1] = pg::Value(NameGetDatum(name));
  asked.row[2] = pg::Value(BoolGetDatum(false));
  asked.start = GetCurrentTimestamp();
  asked.over = asked.connection == nullptr;
  if (asked.over) return;
  remote::begin(*asked.connection, remote::Use::read);
  remote::queue_text(*asked.connection, state_query, remote::Step::call,
                     {{}, {&pattern, 1}, {}, {}});
  remote::send(*asked.connection);
}

/// Takes what has come; the latency is the time to that.
void take_state(StateAsked& asked) {
  while (!asked.over) {
    const auto result = remote::result_if_any(*asked.connection);
    if (!result) return;
    asked.over = *result == nullptr;
    if (asked.over || PQntuples(*result) != 1) continue;
    asked.row[2] = pg::Value(BoolGetDatum(true));
    asked.row[3] = text_value(*result, 0);
    asked.row[4] = text_value(*result, 1);
    asked.row[5] =
        pg::Value(DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
                                      TimestampTzGetDatum(asked.start)));
    asked.row[6] = count_value(*result, 2);
    asked.row[7] = count_value(*result, 3);
  }
  // One that says why it does not answer is there.
  if (asked.connection != nullptr && asked.connection->error != nullptr && !asked.connection->lost)
    asked.row[2] = pg::Value(BoolGetDatum(true));
}

/// Waits for all of them, for a shard that hangs no longer than for a connection.
void take_states(std::span<StateAsked> all, std::span<remote::Connection* const> reached) {
  const remote::Deadline deadline = remote::after_milliseconds(remote::connect_timeout);
  for (;;) {
    for (StateAsked& asked : all) take_state(asked);
    if (std::all_of(all.begin(), all.end(), [](const StateAsked& one) { return one.over; })) return;
    if (!remote::wait_for_any(reached, remote::Interrupts::serve, deadline)) break;
  }
  // What they still say is of no use to anybody.
  for (const StateAsked& asked : all)
    if (!asked.over && asked.connection->depth == 0)
      remote::close_connection(*asked.connection);
    else if (!asked.over)
      asked.connection->lost = true;
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_shard_states);
Datum order_proc_shard_states(PG_FUNCTION_ARGS) {
  const pg::ResultSet results(fcinfo);
  const Cluster* const cluster = routed_to_all();
  if (cluster == nullptr) return results.done();
  const std::size_t count = cluster->shard_count;
  const std::span<StateAsked> all{static_cast<StateAsked*>(palloc0(sizeof(StateAsked) * count)),
                                  count};
  const std::span<remote::Connection*> reached{
      static_cast<remote::Connection**>(palloc0(sizeof(remote::Connection*) * count)), count};
  const std::span<const char*> reasons{static_cast<const char**>(palloc0(sizeof(char*) * count)),
                                       count};
  remote::connect(cluster->targets(), reached, false, reasons);
  const char* const pattern = prepared_pattern(*cluster);
  std::size_t reached_count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    all[i].row.fill({});
    all[i].connection = reached[i];
    if (reached[i] != nullptr) reached[reached_count++] = reached[i];
    ask_for_state(all[i], cluster->shards[i], pattern);
  }
  take_states(all, reached.subspan(0, reached_count));
  for (const StateAsked& asked : all) {
    std::array<Datum, 8> values;
    std::array<bool, 8> nulls;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = asked.row[i].datum;
      nulls[i] = asked.row[i].null;
    }
    results.add(values.data(), nulls.data());
  }
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
