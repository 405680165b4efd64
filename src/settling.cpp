// Ending what is prepared: on each shard every role's transactions by its own connection, all of
// them at once, as many commands in a round trip as a pipeline takes.
#include "mappings.hpp"
#include "pg/error.hpp"
#include "remote/pipeline.hpp"
#include "remote/wait.hpp"
#include "resolver.hpp"

namespace order_proc {

namespace {

/// What one connection has to end.
struct Batch {
  remote::Connection* connection;
  const char* owner;  ///< null: whatever the view's own connection may end
  const ShardView* view;
  std::span<Orphan*> orphans;
  std::size_t at;    ///< the first that is not sent
  std::size_t sent;  ///< how many are in flight
};

/// As many fit into a pipeline.
constexpr std::size_t most_sent = 20;
/// How many transactions are worth a connection of their own, and how many there may be to a shard.
constexpr std::size_t lane_size = 50;
constexpr std::size_t most_lanes = 8;
/// How long a shard may take to let a connection join.
constexpr int most_patience = 1000;

bool to_be_settled(const Orphan& orphan) {
  return !orphan.settled &&
         (orphan.fate == Orphan::Fate::commit || orphan.fate == Orphan::Fate::roll_back);
}

const char* command_for(const Orphan& orphan) {
  return psprintf("%s PREPARED %s", orphan.fate == Orphan::Fate::commit ? "COMMIT" : "ROLLBACK",
                  quote_literal_cstr(orphan.gid));
}

const char* action_of(const Orphan& orphan) {
  return orphan.fate == Orphan::Fate::commit ? "committed" : "rolled back";
}

/// The fence asks on whose behalf a session commits. What else the shard has to say does not count:
/// one that is being added does not know yet whose it is. Those that do not answer are closed.
void introduce(const Cluster& cluster, const ShardView& view,
               std::span<remote::Connection* const> connections) {
  if (!view.target.fenced) return;
  const remote::Incarnation here = remote::incarnation();
  const std::array<const char*, 4> values{
      psprintf(INT64_FORMAT, cluster.coordinator_id), psprintf("%d", view.target.shard_id),
      psprintf("%u", here.timeline), psprintf(INT64_FORMAT, here.instance)};
  for (remote::Connection* const connection : connections) {
    remote::queue_text(*connection, "SELECT order_proc.join_cluster($1, $2, $3, $4)",
                       remote::Step::control, {{}, values, {}, {}});
    remote::send(*connection);
  }
  (void)remote::finish_all(connections, remote::Interrupts::serve,
                           remote::after_milliseconds(most_patience));
  for (remote::Connection* const connection : connections) {
    if (remote::error_code(*connection) == pg::coordinator_fenced) remote::raise_error(*connection);
    if (connection->in_flight) remote::close_connection(*connection);
  }
}

/// Up to `count` connections by the user's mapping, with numbers from `first` on, made at once:
/// those that are to be had.
std::span<remote::Connection*> connect_as(const Cluster& cluster, const ShardView& view, Oid user,
                                          std::size_t first, std::size_t count) {
  auto* const targets = static_cast<remote::Target*>(palloc(sizeof(remote::Target) * (count + 1)));
  auto** const connections =
      static_cast<remote::Connection**>(palloc(sizeof(remote::Connection*) * (count + 1)));
  auto** const reasons = static_cast<const char**>(palloc0(sizeof(char*) * (count + 1)));
  for (std::size_t i = 0; i < count; ++i) {
    targets[i] = view.target;
    targets[i].mapped = true;
    targets[i].user = user;
    targets[i].lane = static_cast<int>(first + i);
  }
  remote::connect({targets, count}, {connections, count}, false, {reasons, count});
  auto** const reached = std::remove(connections, connections + count, nullptr);
  introduce(cluster, view, {connections, reached});
  auto** const end = std::remove_if(connections, reached, [](const remote::Connection* connection) {
    return connection->link == nullptr;
  });
  return {connections, end};
}

/// The connection of somebody else's mapping that leads to the role; null without one.
remote::Connection* connect_for(const Store& store, const Cluster& cluster, const ShardView& view,
                                const char* owner) {
  for (const Mapping& mapping : mappings_of(view.target.server, store.owner)) {
    if (std::string_view(mapping.remote_user) != owner) continue;
    const auto connections = connect_as(cluster, view, mapping.user, 0, 1);
    if (!connections.empty()) return connections[0];
  }
  return nullptr;
}

bool belongs_to(const Orphan& orphan, const char* owner) {
  if (owner == nullptr) return orphan.mine;
  return !orphan.mine && std::string_view(orphan.owner) == owner;
}

List* append_batch(List* batches, const Batch& values) {
  auto* const batch = static_cast<Batch*>(palloc(sizeof(Batch)));
  *batch = values;
  return lappend(batches, batch);
}

/// Adds batches for the orphans of the view that belong to the owner. Many are shared out among
/// several connections: their flushes of the log are made together.
List* add_batches(List* batches, const Store& store, const Cluster& cluster, const ShardView& view,
                  const char* owner) {
  auto** const orphans = static_cast<Orphan**>(palloc(sizeof(Orphan*) * (view.orphans.size() + 1)));
  std::size_t count = 0;
  for (Orphan& orphan : view.orphans)
    if (to_be_settled(orphan) && belongs_to(orphan, owner)) orphans[count++] = &orphan;
  if (count == 0) return batches;
  remote::Connection* const first =
      owner == nullptr ? view.connection : connect_for(store, cluster, view, owner);
  const std::size_t lanes =
      first == nullptr ? 1 : std::clamp<std::size_t>(count / lane_size, 1, most_lanes);
  const auto others = lanes == 1 ? std::span<remote::Connection*>{}
                                 : connect_as(cluster, view, first->user, 1, lanes - 1);
  std::size_t at = 0;
  for (std::size_t lane = 0; lane <= others.size(); ++lane) {
    const std::size_t end = count * (lane + 1) / (others.size() + 1);
    batches = append_batch(
        batches,
        {lane == 0 ? first : others[lane - 1], owner, &view, {orphans + at, end - at}, 0, 0});
    at = end;
  }
  return batches;
}

bool has_batch(const List* batches, const ShardView& view, const char* owner) {
  ListCell* cell;
  foreach (cell, batches) {
    const auto* const batch = static_cast<const Batch*>(lfirst(cell));
    if (batch->view == &view && batch->owner != nullptr && std::string_view(batch->owner) == owner)
      return true;
  }
  return false;
}

List* make_batches(const Store& store, const Cluster& cluster, std::span<ShardView> views) {
  List* batches = NIL;
  for (const ShardView& view : views) {
    if (view.connection == nullptr) continue;
    batches = add_batches(batches, store, cluster, view, nullptr);
    for (const Orphan& orphan : view.orphans)
      if (to_be_settled(orphan) && !orphan.mine && !has_batch(batches, view, orphan.owner))
        batches = add_batches(batches, store, cluster, view, orphan.owner);
  }
  return batches;
}

/// Each command is a transaction of its own.
void send_some(Batch& batch) {
  batch.sent = std::min(most_sent, batch.orphans.size() - batch.at);
  for (std::size_t i = 0; i < batch.sent; ++i) {
    if (i > 0) remote::queue_sync(*batch.connection);
    remote::queue_text(*batch.connection, command_for(*batch.orphans[batch.at + i]),
                       remote::Step::call, {});
  }
  remote::send(*batch.connection);
}

/// Nobody here may end them.
void pass_over(Batch& batch, const pg::ResultSet* results) {
  static TimestampTz told = 0;
  batch.at = batch.orphans.size();
  if (!may_tell(results, told)) return;
  ereport(WARNING, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
          errmsg("what role \"%s\" prepared on shard %d cannot be settled", batch.owner,
                 batch.view->target.shard_id),
          errhint("CREATE USER MAPPING FOR ... SERVER %s OPTIONS (user %s, ...);",
                  quote_identifier(remote::server_name(batch.view->target.server)),
                  quote_literal_cstr(batch.owner)));
}

/// What became of them; those that failed stay for the next round: another is at it, most likely.
void read_some(Batch& batch, const pg::ResultSet* results, remote::Deadline deadline) {
  remote::Connection& connection = *batch.connection;
  while (remote::next_result(connection, remote::Interrupts::serve, deadline) != nullptr) {
    Orphan& orphan = *batch.orphans[batch.at + connection.step_at];
    orphan.settled = true;
    report(results, orphan.gid, orphan.shard_id, action_of(orphan));
  }
  const int code = remote::error_code(connection);
  if (code == pg::coordinator_fenced) remote::raise_error(connection);
  static TimestampTz told = 0;
  if (code != 0 && code != ERRCODE_UNDEFINED_OBJECT && code != ERRCODE_OBJECT_IN_USE &&
      code != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE && may_tell(results, told)) {
    ereport(WARNING, errcode(code),
            errmsg("could not settle what is prepared on shard %d (server \"%s\")",
                   batch.view->target.shard_id, remote::server_name(batch.view->target.server)),
            errdetail_internal("%s", remote::error_message(connection)));
  }
  batch.at += batch.sent;
  if (!connection.in_flight && !connection.lost) return;
  remote::close_connection(connection);
  batch.at = batch.orphans.size();
}

}  // namespace

void report(const pg::ResultSet* results, const char* gid, int shard_id, const char* action) {
  if (results == nullptr) {
    ereport(LOG, errmsg("transaction \"%s\" on shard %d: %s", gid, shard_id, action));
    return;
  }
  results->add({pg::Value(CStringGetTextDatum(gid)), pg::Value(Int32GetDatum(shard_id)),
                pg::Value(CStringGetTextDatum(action))});
}

void settle(const Store& store, const Cluster& cluster, std::span<ShardView> views,
            const pg::ResultSet* results, int patience) {
  const List* const batches = make_batches(store, cluster, views);
  ListCell* cell;
  foreach (cell, batches) {
    auto& batch = *static_cast<Batch*>(lfirst(cell));
    if (batch.connection == nullptr) pass_over(batch, results);
  }
  for (bool busy = true; busy;) {
    busy = false;
    CHECK_FOR_INTERRUPTS();
    foreach (cell, batches) {
      auto& batch = *static_cast<Batch*>(lfirst(cell));
      if (batch.at < batch.orphans.size()) send_some(batch);
    }
    const remote::Deadline deadline = remote::after_milliseconds(patience);
    foreach (cell, batches) {
      auto& batch = *static_cast<Batch*>(lfirst(cell));
      if (batch.at >= batch.orphans.size()) continue;
      read_some(batch, results, deadline);
      busy |= batch.at < batch.orphans.size();
    }
  }
  foreach (cell, batches) {
    const auto& batch = *static_cast<const Batch*>(lfirst(cell));
    if (batch.connection != nullptr && batch.connection->lane > 0)
      remote::close_connection(*batch.connection);
  }
}

}  // namespace order_proc
