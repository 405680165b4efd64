// What an import on a coordinator asks the shards before it sends lines: the statuses that orders
// may have, and which of the customers there are. All shards at once, in the memory of the caller.
#include "import.hpp"
#include "pg/error.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"
#include "slots.hpp"

namespace order_proc {

std::size_t shard_of(const Import& import, int64 customer_id) {
  return static_cast<std::size_t>(
      shard_of_slot(*import.cluster, slot_of_customer(import.store, customer_id)).shard_id);
}

namespace {

remote::Statement find_statuses{"SELECT pg_catalog.unnest(order_proc.import_statuses())"};
remote::Statement find_customers{
    "SELECT c.known, c.made FROM order_proc.import_customers($1, $2) AS c"};

/// Asks a shard for those of the customers that it has; false when it has none.
bool ask_for_customers(const Import& import, remote::Connection& connection, std::size_t shard,
                       std::span<const int64> ids) {
  StringInfoData array;
  initStringInfo(&array);
  for (const int64 id : ids)
    if (shard_of(import, id) == shard)
      appendStringInfo(&array, "%c" INT64_FORMAT, array.len == 0 ? '{' : ',', id);
  if (array.len == 0) return false;
  appendStringInfoChar(&array, '}');
  const std::array<const char*, 2> values{array.data, import_create_customers ? "t" : "f"};
  remote::begin(connection,
                import_create_customers ? remote::Use::write : remote::Use::transaction);
  remote::queue(connection, find_customers, remote::Step::call, {{}, values, {}, {}});
  remote::send(connection);
  return true;
}

/// Takes the answer: flags "{t,f,...}" in the order of the ids that were asked for.
void take_customers(Import& import, remote::Connection& connection, std::size_t shard,
                    std::span<const int64> ids, bool* known) {
  const PGresult* const result = remote::next_result(connection);
  if (result == nullptr) remote::raise_error(connection);
  if (result == nullptr || PQntuples(result) != 1) remote::raise_lost(connection);
  std::string_view flags{remote::cell(result, 0, 0)};
  import.counts.customers += strtoll(remote::cell(result, 0, 1), nullptr, 10);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (shard_of(import, ids[i]) != shard || flags.size() < 2) continue;
    flags.remove_prefix(1);
    known[i] = flags.front() == 't';
    flags.remove_prefix(1);
  }
  (void)remote::next_result(connection);
  remote::raise_error(connection);
}

}  // namespace

std::span<text*> statuses_of_shards(const Cluster& cluster) {
  remote::Connection& connection = *connect_all(cluster, false)[0];
  remote::begin(connection, remote::Use::transaction);
  remote::queue(connection, find_statuses, remote::Step::call, {});
  remote::send(connection);
  const PGresult* const result = remote::next_result(connection);
  const int count = result == nullptr ? 0 : PQntuples(result);
  auto** const statuses =
      static_cast<text**>(palloc(sizeof(text*) * (static_cast<std::size_t>(count) + 1)));
  for (int i = 0; i < count; ++i) statuses[i] = cstring_to_text(remote::cell(result, i, 0));
  (void)remote::next_result(connection);
  remote::raise_error(connection);
  return {statuses, static_cast<std::size_t>(count)};
}

void find_customers_on_shards(Import& import, std::span<const int64> ids, bool* known) {
  std::fill_n(known, ids.size(), false);
  const auto connections = connect_all(*import.cluster, false);
  auto* const asked = static_cast<bool*>(palloc(connections.size()));
  for (std::size_t shard = 0; shard < connections.size(); ++shard)
    asked[shard] = ask_for_customers(import, *connections[shard], shard, ids);
  for (std::size_t shard = 0; shard < connections.size(); ++shard)
    if (asked[shard]) take_customers(import, *connections[shard], shard, ids, known);
}

}  // namespace order_proc
