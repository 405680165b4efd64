// Transactions that a shard decides, by its commit. A receipt there tells that it has committed; no
// receipt does not tell that it will not, since its session may be about to, unheard. So the place
// of the receipt is taken: that waits for such a session, and shuts out one that comes later.
#include "pg/error.hpp"
#include "remote/pipeline.hpp"
#include "resolver.hpp"

namespace order_proc {

namespace {

/// Key 0 proves nothing. A session that is about to commit is not waited for longer. A place that
/// an earlier round took is ours, too: not all parts may have been within reach then.
constexpr const char* take_place_query =
    "INSERT INTO order_store.receipts AS r (gid, receipt_key) SELECT $1::pg_catalog.text, 0 FROM "
    "pg_catalog.set_config('lock_timeout', '100ms', true) ON CONFLICT (gid) DO UPDATE SET "
    "receipt_key = 0 WHERE r.receipt_key OPERATOR(pg_catalog.=) 0 RETURNING r.gid";

/// As many fit into a pipeline, each a transaction of its own.
constexpr std::size_t most_sent = 20;

/// Those whose places on the shard were taken, sorted.
std::span<const char* const> take_places(remote::Connection& connection,
                                         std::span<const char* const> bases, int patience) {
  auto** const taken = static_cast<const char**>(palloc(sizeof(char*) * (bases.size() + 1)));
  std::size_t count = 0;
  while (!bases.empty() && !connection.lost) {
    CHECK_FOR_INTERRUPTS();
    const auto some = bases.first(std::min(bases.size(), most_sent));
    bases = bases.subspan(some.size());
    for (const char* const& base : some) {
      remote::queue_sync(connection);
      remote::queue_text(connection, take_place_query, remote::Step::call,
                         {{}, {&base, 1}, {}, {}});
    }
    remote::send(connection);
    const remote::Deadline deadline = remote::after_milliseconds(patience);
    while (const PGresult* const result =
               remote::next_result(connection, remote::Interrupts::serve, deadline))
      if (PQntuples(result) > 0) taken[count++] = pstrdup(remote::cell(result, 0, 0));
    if (connection.in_flight) connection.lost = true;
  }
  return sort_texts({taken, count});
}

/// What the shard of the view decides, and has not committed so far.
template <typename F>
void for_each_decided_by(const Cluster& cluster, const ShardView& decider,
                         std::span<ShardView> views, F&& use) {
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans)
      if (orphan.fate == Orphan::Fate::unknown &&
          orphan.numbers.coordinator == static_cast<uint64>(cluster.coordinator_id) &&
          orphan.numbers.decider == static_cast<uint32>(decider.target.shard_id))
        use(orphan);
}

}  // namespace

void ask_deciders(const Cluster& cluster, std::span<ShardView> views, int patience) {
  // A server that does not know its timeline has not shut out the one before.
  if (remote::incarnation().timeline == 0) return;
  for (ShardView& view : views) {
    if (view.connection == nullptr) continue;
    std::size_t count = 0;
    for_each_decided_by(cluster, view, views, [&](Orphan&) { ++count; });
    if (count == 0) continue;
    auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * count));
    count = 0;
    for_each_decided_by(cluster, view, views,
                        [&](Orphan& orphan) { bases[count++] = orphan.base; });
    const auto taken = take_places(*view.connection, {bases, count}, patience);
    for_each_decided_by(cluster, view, views, [&](Orphan& orphan) {
      if (is_among(taken, orphan.base)) orphan.fate = Orphan::Fate::roll_back;
    });
    if (view.connection->lost) give_up(view, "it does not answer");
  }
}

}  // namespace order_proc
