// The connections that a session keeps: found by server and user, closed when they are unfit, idle
// for too long or of a server that was altered. How they are made: connecting.cpp.
//
// Memory: TopMemoryContext, one of each server and user for ever; an ERROR leaves them as they are,
// and their state tells the end of the transaction what to do with them.
#include "remote/connection.hpp"

#include "pg/error.hpp"
#include "pg/foreign.hpp"
#include "remote/connecting.hpp"
#include "remote/incarnation.hpp"
#include "remote/limits.hpp"
#include "remote/pipeline.hpp"

namespace order_proc::remote {

int connect_timeout = 5000;
int idle_timeout = 600000;
int max_connections_per_shard = 100;
int read_preference = read_primary;

namespace {

constexpr std::array<config_enum_entry, 3> read_preferences{
    {{"primary", read_primary, false},
     {"prefer_standby", read_prefer_standby, false},
     {nullptr, 0, false}}};

/// Of the second connections that only see whether a server lives.
constexpr int second_lane = -1;

Connection* connections = nullptr;
bool watching = false;

/// InvalidOid: of the mapping of PUBLIC.
uint32 mapping_hash(Oid user, Oid server) {
  return GetSysCacheHashValue2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user),
                               ObjectIdGetDatum(server));
}

Connection& find_or_make(const Target& target, bool standby) {
  const Oid user = target.mapped ? target.user : GetUserId();
  for (Connection* connection = connections; connection != nullptr; connection = connection->next)
    if (connection->server == target.server && connection->user == user &&
        connection->standby == standby && connection->mapped == target.mapped &&
        connection->lane == target.lane && connection->coordinator_id == target.coordinator_id) {
      connection->shard_id = target.shard_id;
      connection->fenced = target.fenced;
      return *connection;
    }
  auto* const made =
      static_cast<Connection*>(MemoryContextAllocZero(TopMemoryContext, sizeof(Connection)));
  made->server = target.server;
  made->user = user;
  made->shard_id = target.shard_id;
  made->coordinator_id = target.coordinator_id;
  made->fenced = target.fenced;
  made->mapped = target.mapped;
  made->lane = target.lane;
  made->standby = standby;
  made->server_hash = GetSysCacheHashValue1(FOREIGNSERVEROID, ObjectIdGetDatum(target.server));
  made->mapping_hash = {mapping_hash(user, target.server), mapping_hash(InvalidOid, target.server)};
  made->next = connections;
  connections = made;
  return *made;
}

/// Whether the other side has hung up, or said something unasked, since the last use: that is most
/// likely its farewell, which libpq reads before it sees the end.
bool hung_up(const pollfd& descriptor) {
  return descriptor.fd < 0 || descriptor.revents != 0;
}

/// Whether it joined before this server was promoted.
bool outdated(const Connection& connection) {
  return connection.fenced && connection.coordinator_id != 0 &&
         connection.timeline != incarnation().timeline;
}

/// Whether a connection cannot serve another transaction.
bool unfit(const Connection& connection, const pollfd& descriptor) {
  // One that was interrupted while connecting has no process id yet.
  return connection.backend_pid == 0 || connection.lost || connection.stale || connection.doomed ||
         connection.hung_up || connection.step_count > 0 || outdated(connection) ||
         PQstatus(connection.link) == CONNECTION_BAD || hung_up(descriptor);
}

/// A look at the sockets of many connections with one call.
class Glance {
 public:
  explicit Glance(std::size_t most) {
    if (most > few_.size()) descriptors_ = static_cast<pollfd*>(palloc(sizeof(pollfd) * most));
  }
  void add(const Connection& connection) {
    descriptors_[count_++] = {PQsocket(connection.link), POLLIN, 0};
  }
  void look() {
    if (count_ > 0) (void)poll(descriptors_, count_, 0);
  }
  const pollfd& operator[](std::size_t i) const { return descriptors_[i]; }
  void end() {
    if (descriptors_ != few_.data()) pfree(descriptors_);
  }

 private:
  std::array<pollfd, 64> few_;
  pollfd* descriptors_ = few_.data();  ///< more are in the caller's memory context
  std::size_t count_ = 0;
};

/// Closes those that are unfit.
void drop_unfit(std::span<Connection* const> wanted) {
  Glance glance(wanted.size());
  Deadline deadline = never;
  for (Connection* const connection : wanted) {
    if (connection == nullptr || connection->link == nullptr || connection->depth > 0) continue;
    // The end of a transaction that nobody waited for: a shard that does not tell it hangs.
    if (connection->in_flight) {
      if (deadline == never) deadline = after_milliseconds(connect_timeout);
      (void)next_result(*connection, Interrupts::serve, deadline);
    }
    glance.add(*connection);
  }
  glance.look();
  std::size_t at = 0;
  for (Connection* const connection : wanted)
    if (connection != nullptr && connection->link != nullptr && connection->depth == 0 &&
        unfit(*connection, glance[at++]))
      close_connection(*connection);
  glance.end();
}

/// Also what an ERROR left half open.
void close_second_ones(void*) {
  for (Connection* connection = connections; connection != nullptr; connection = connection->next)
    if (connection->lane == second_lane) close_connection(*connection);
}

/// `hash` 0: any may be.
void server_altered(Datum, int, uint32 hash) {
  for (Connection* connection = connections; connection != nullptr; connection = connection->next)
    if (hash == 0 || hash == connection->server_hash) connection->stale = true;
}

/// Also one that is new, and comes before that of PUBLIC.
void mapping_altered(Datum, int, uint32 hash) {
  for (Connection* connection = connections; connection != nullptr; connection = connection->next)
    if (hash == 0 || hash == connection->mapping_hash[0] || hash == connection->mapping_hash[1])
      connection->stale = true;
}

}  // namespace

void watch_servers() {
  if (watching) return;
  name_shard_wait();
  watching = true;
  CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_altered, 0);
  CacheRegisterSyscacheCallback(USERMAPPINGUSERSERVER, mapping_altered, 0);
}

Connection* first_connection() {
  return connections;
}

bool in_transaction() {
  for (const Connection* connection = connections; connection != nullptr;
       connection = connection->next)
    if (connection->depth > 0 || connection->doomed) return true;
  return false;
}

const char* server_name(Oid server) {
  const ForeignServer* const found = GetForeignServerExtended(server, FSV_MISSING_OK);
  return found == nullptr ? "?" : found->servername;
}

bool server_exists(Oid server) {
  return OidIsValid(server) && SearchSysCacheExists1(FOREIGNSERVEROID, ObjectIdGetDatum(server));
}

void tell_no_server(int level, int shard_id) {
  ereport(level, errcode(ERRCODE_UNDEFINED_OBJECT),
          errmsg("the foreign server of shard %d does not exist", shard_id),
          errhint("TABLE order_store.shards names it: CREATE SERVER and its user mappings again."));
}

void raise_no_server(int shard_id) {
  tell_no_server(ERROR, shard_id);
  pg_unreachable();
}

const char* reason(const Connection& connection) {
  if (connection.link == nullptr ||
      !(superuser() || pg::owns_server(connection.server, GetUserId())))
    return nullptr;
  const char* const text = pstrdup(PQerrorMessage(connection.link));
  std::string_view view{text};
  while (!view.empty() && (view.back() == '\n' || view.back() == ' ')) view.remove_suffix(1);
  return view.empty() ? nullptr : pnstrdup(view.data(), view.size());
}

void raise_lost(Connection& connection) {
  connection.lost = true;
  const char* const why = reason(connection);
  ereport(ERROR, errcode(ERRCODE_CONNECTION_FAILURE),
          errmsg("the connection to shard %d (server \"%s\") was lost", connection.shard_id,
                 server_name(connection.server)),
          why == nullptr ? 0 : errdetail_internal("%s", why),
          errhint("Nothing was committed on the shard; run the transaction again."));
}

void forget_session(Connection& connection) {
  connection.depth = connection.begin_level = 0;
  connection.release_level = connection.wrote_level = 0;
  connection.prepared_here = connection.alone = connection.left_open = false;
  connection.cut = 0;
  connection.step_count = connection.step_at = connection.inner_syncs = 0;
  connection.in_flight = connection.streaming = connection.row_mode_set = false;
  connection.parsing = {};
  connection.settings.known = connection.altered = false;
  connection.stale = connection.lost = connection.doomed = connection.pooled = false;
  connection.hung_up = false;
  connection.unregistered = false;
  connection.backend_pid = 0;
  connection.timeline = 0;
  connection.socket = -1;
  if (connection.prepared != nullptr)
    std::fill_n(connection.prepared, connection.prepared_count, 0);
}

void close_connection(Connection& connection) {
  PQclear(connection.result);
  PQclear(connection.error);
  connection.result = connection.error = nullptr;
  if (connection.link != nullptr) {
    PQfinish(connection.link);
    connection.link = nullptr;
    ReleaseExternalFD();
    release_place(connection);
  }
  forget_session(connection);
}

void note_hung_up(std::span<Connection* const> watched) {
  Glance glance(watched.size());
  for (const Connection* const connection : watched) glance.add(*connection);
  glance.look();
  for (std::size_t i = 0; i < watched.size(); ++i)
    if (hung_up(glance[i])) watched[i]->lost = true;
  glance.end();
}

void connect(std::span<const Target> targets, std::span<Connection*> wanted, bool may_be_standby,
             std::span<const char*> unreachable) {
  watch_servers();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (!server_exists(targets[i].server)) {
      if (unreachable.empty()) raise_no_server(targets[i].shard_id);
      unreachable[i] = "its foreign server does not exist";
      wanted[i] = nullptr;
      continue;
    }
    if (!targets[i].mapped && !pg::may_use_server(targets[i].server, GetUserId()))
      aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server_name(targets[i].server));
    Connection* connection = &find_or_make(targets[i], false);
    // In a transaction that has begun there already, reads must see what it did.
    if (may_be_standby && read_preference == read_prefer_standby && connection->depth == 0)
      connection = &find_or_make(targets[i], true);
    if (connection->doomed) raise_lost(*connection);
    wanted[i] = connection;
  }
  drop_unfit(wanted);
  const TimestampTz now = GetCurrentTimestamp();
  for (Connection* const connection : wanted)
    if (connection != nullptr) connection->last_used = now;
  open(wanted, unreachable);
  watch_idle_connections();
}

bool reopen(Connection& connection, std::span<const char*> unreachable) {
  close_connection(connection);
  Connection* one[] = {&connection};
  open(one, unreachable);
  watch_idle_connections();
  return one[0] != nullptr;
}

void find_living(std::span<Connection* const> silent, std::span<bool> lives) {
  const std::span<Connection*> second{
      static_cast<Connection**>(palloc(sizeof(Connection*) * (silent.size() + 1))), silent.size()};
  auto* const at_reset =
      static_cast<MemoryContextCallback*>(palloc0(sizeof(MemoryContextCallback)));
  at_reset->func = close_second_ones;
  MemoryContextRegisterResetCallback(CurrentMemoryContext, at_reset);
  for (std::size_t i = 0; i < silent.size(); ++i) {
    const Connection& first = *silent[i];
    // As one of recovery, so that it has no part in the limit.
    second[i] = &find_or_make(
        {first.shard_id, first.server, 0, false, true, first.user, second_lane}, first.standby);
    second[i]->beside = &first;
    second[i]->last_used = GetCurrentTimestamp();
  }
  try_out(second, lives);
}

void close_idle(bool all) {
  const TimestampTz now = GetCurrentTimestamp();
  for (Connection* connection = connections; connection != nullptr; connection = connection->next)
    if (connection->link != nullptr && connection->depth == 0 && !connection->in_flight &&
        (all || TimestampDifferenceExceeds(connection->last_used, now, idle_timeout)))
      close_connection(*connection);
}

void define_connection_settings() {
  DefineCustomIntVariable(
      "order_proc.connect_timeout", "How long to wait for a connection to a shard.", nullptr,
      &connect_timeout, 5000, 1, 600000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("order_proc.idle_timeout",
                          "Connections to shards that are not used for so long are closed.",
                          "0 keeps them as long as the session.", &idle_timeout, 600000, 0, INT_MAX,
                          PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
  DefineCustomIntVariable(
      "order_proc.max_connections_per_shard", "How many connections there may be to a shard.",
      "Over all sessions when the library is in shared_preload_libraries, else in a session.",
      &max_connections_per_shard, 100, 1, 100000, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomEnumVariable(
      "order_proc.read_preference", "Which servers of a shard serve reads.",
      "prefer_standby: a standby among the hosts of the server, if one answers.", &read_preference,
      read_primary, read_preferences.data(), PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

}  // namespace order_proc::remote
