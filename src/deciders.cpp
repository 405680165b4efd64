// Transactions that the shards decide: they are committed when all of their shards have prepared.
// That one has not prepared does not tell that it will not, since its session may be about to,
// unheard. So the place of its receipt is taken: that waits for such a session, and shuts out one
// that comes later. Then the others are rolled back.
//
// Where all have prepared a session may be about to have the first of the shards roll back, and if
// that succeeds the others: so that one commits before the others do.
#include "pg/error.hpp"
#include "remote/pipeline.hpp"
#include "resolver.hpp"

namespace order_proc {

namespace {

/// Key 0 proves nothing. A session that is about to prepare is not waited for longer. A place that
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

/// What the shards decide, and have not, as far as is known.
bool is_open(const Cluster& cluster, const Orphan& orphan) {
  return orphan.fate == Orphan::Fate::unknown && orphan.numbers.decider_count > 0 &&
         orphan.numbers.coordinator == static_cast<uint64>(cluster.coordinator_id);
}

/// The shard that is asked about a transaction that cannot be committed (yet): one that has not
/// prepared. no_shard when there is none, or it cannot be told.
int shard_without(const Orphan& orphan, std::span<const ShardView> views,
                  std::span<const Look> looks) {
  for (const int shard : core::deciders_of(orphan.numbers)) {
    const ShardView* const view = view_of(views, shard);
    if (view == nullptr || view->connection == nullptr) continue;
    const Look& look = looks[static_cast<std::size_t>(view - views.data())];
    if (look.all && !is_among(look.bases, orphan.base)) return shard;
  }
  return no_shard;
}

bool all_have_prepared(const Orphan& orphan, std::span<const ShardView> views,
                       std::span<const Look> looks) {
  const auto deciders = core::deciders_of(orphan.numbers);
  return std::all_of(deciders.begin(), deciders.end(), [&](int shard) {
    const ShardView* const view = view_of(views, shard);
    return view != nullptr &&
           is_among(looks[static_cast<std::size_t>(view - views.data())].bases, orphan.base);
  });
}

/// One of unknown fate, and the shard that is asked about it.
struct Open {
  Orphan* orphan;
  int asked;  ///< see shard_without
};

std::span<Open> find_open(const Cluster& cluster, std::span<ShardView> views) {
  std::size_t most = 0;
  for (const ShardView& view : views) most += view.orphans.size();
  auto* const open =
      static_cast<Open*>(palloc_extended(sizeof(Open) * (most + 1), MCXT_ALLOC_HUGE));
  std::size_t count = 0;
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans)
      if (is_open(cluster, orphan)) open[count++] = {&orphan, no_shard};
  return {open, count};
}

}  // namespace

bool ask_deciders(const Cluster& cluster, std::span<ShardView> views, int patience) {
  // A server that does not know its timeline has not shut out the one before.
  if (remote::incarnation().timeline == 0) return false;
  const auto all_open = find_open(cluster, views);
  if (all_open.empty()) return false;
  // What was seen so far may be of the time when the transaction was running.
  const auto looks = look_again(cluster, views, patience);
  for (Open& open : all_open) {
    CHECK_FOR_INTERRUPTS();
    open.asked = shard_without(*open.orphan, views, looks);
  }
  auto** const bases =
      static_cast<const char**>(palloc_extended(sizeof(char*) * all_open.size(), MCXT_ALLOC_HUGE));
  for (ShardView& view : views) {
    if (view.connection == nullptr) continue;
    std::size_t count = 0;
    for (const Open& open : all_open)
      if (open.asked == view.target.shard_id) bases[count++] = open.orphan->base;
    if (count == 0) continue;
    const auto taken = take_places(*view.connection, {bases, count}, patience);
    for (const Open& open : all_open)
      if (open.asked == view.target.shard_id && is_among(taken, open.orphan->base))
        open.orphan->fate = Orphan::Fate::roll_back;
    if (view.connection->lost) give_up(view, "it does not answer");
  }
  bool firsts = false;
  for (const Open& open : all_open) {
    Orphan& orphan = *open.orphan;
    CHECK_FOR_INTERRUPTS();
    if (open.asked != no_shard || orphan.shard_id != orphan.numbers.deciders[0] ||
        !all_have_prepared(orphan, views, looks))
      continue;
    orphan.fate = Orphan::Fate::commit;
    firsts = true;
  }
  return firsts;
}

}  // namespace order_proc
