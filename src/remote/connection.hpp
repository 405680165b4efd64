// Connections to shards: one per server and role in a session, opened when first used, kept, and
// replaced outside transactions when they break. Everything is non-blocking: one loop (wait.cpp)
// waits for any number of them, serving interrupts.
//
// Memory: Connection structs in TopMemoryContext for the life of the session; what libpq holds
// (PGconn, the last PGresult) hangs on them and is freed by the next use, the end of the
// transaction (transaction.cpp) or the end of the session. So an ERROR anywhere loses nothing.
#pragma once

#include "core/gid.hpp"
#include "pg/postgres.hpp"

extern "C" {
#include "libpq-fe.h"
}

namespace order_proc::remote {

/// A shard as the catalogue names it.
struct Target {
  int shard_id;
  Oid server;
  int64 coordinator_id;   ///< which the shard must belong to; 0: not asked (add_shard, recovery)
  bool fenced = false;    ///< the shard compares the coordinator's timeline (from layout 1.8 on)
  bool mapped = false;    ///< as `user` instead of the current one, without a look at his rights
  Oid user = InvalidOid;  ///< InvalidOid: by the mapping of PUBLIC
  int lane = 0;           ///< more than one connection as the same user
};

/// A statement that shards run; prepared once per connection. Declare one of ours static.
struct Statement {
  const char* text;
  uint32 id = 0;       ///< numbered at the first use in a session
  uint32 version = 0;  ///< of the text, from 1 on: it is prepared under another name
  std::array<char, 32> name{};
};

/// What a step of a pipeline is for, in the order they were sent.
enum class Step : uint8 { control, parse, call };

struct Connection {
  Connection* next;
  Oid server;
  Oid user;
  int shard_id;
  int64 coordinator_id;
  bool fenced;        ///< see Target
  bool mapped;        ///< see Target; one of recovery, which has no part in the limit
  int lane;           ///< see Target
  uint32 timeline;    ///< of this server when it joined; 0: none was told
  bool unregistered;  ///< the shard has yet to hear of this server
  bool standby;       ///< for reads, perhaps of a standby
  PGconn* link;       ///< null: not open
  PGresult* result;   ///< the last one handed out
  PGresult* error;    ///< the first error of the pipeline
  int socket;         ///< of the link
  bool pooled;        ///< something between gives each transaction another session
  bool stale;         ///< server or mapping were altered: not for another transaction
  bool lost;          ///< found broken
  int backend_pid;    ///< on the shard, 0 before it answered
  TimestampTz last_used;
  uint32 server_hash;                  ///< by which the syscache tells that the server was altered
  std::array<uint32, 2> mapping_hash;  ///< or the mapping of the user, or that of PUBLIC

  const Connection* beside;  ///< leads to the host that this one leads to; null: to any

  // See limits.cpp.
  volatile bool placed;   ///< counted
  void* volatile places;  ///< the count, when it is shared by all sessions
  volatile bool hung_up;  ///< by the timer

  // The transaction on the shard, see transaction.cpp.
  int depth;           ///< 0: none open; n: savepoints up to nest level n
  int begin_level;     ///< nest level at which it began
  int release_level;   ///< savepoints from this level on are still to be released; 0: none
  int wrote_level;     ///< nest level of the first write; 0: none
  bool doomed;         ///< what it did is lost: the local transaction cannot commit
  bool alone;          ///< the pipeline in flight is a transaction of its own
  bool left_open;      ///< such a one failed before its end, or has a snapshot for the next one
  uint32 cut;          ///< the cut that its snapshot is part of; 0: of none
  bool prepared_here;  ///< it is (being) prepared for a commit in two phases
  core::GidText gid;   ///< as what

  // The pipeline in flight.
  std::array<Step, 24> steps;
  uint8 step_count;
  uint8 step_at;
  uint8 inner_syncs;  ///< ends of parts of it that have not been read
  bool in_flight;     ///< its end has not been read
  bool streaming;     ///< the call's rows come one by one
  bool row_mode_set;
  struct {
    uint32 id, version;
  } parsing;  ///< the statement whose Parse is in flight, or zeros

  // What the session on the shard has.
  uint32* prepared;  ///< the version by Statement::id, 0: none
  uint32 prepared_count;
  struct Settings {
    const void* timezone;
    int date_order;
    int bytea_output;
    int interval_style;
    int lock_timeout;
    int statement_timeout;
    bool known;
  } settings;
  bool altered;  ///< settings of ours or others may have been changed there, by what ran there
};

/// A value of a result, "" when it does not have that row or column: what a shard sends need not be
/// what it was asked for.
inline const char* cell(const PGresult* result, int row, int column) {
  const char* const value = PQgetvalue(result, row, column);
  return value == nullptr ? "" : value;
}

/// order_proc.connect_timeout, order_proc.idle_timeout, order_proc.max_connections_per_shard
extern int connect_timeout;
extern int idle_timeout;
extern int max_connections_per_shard;

/// Which server of several hosts reads may use.
enum ReadPreference { read_primary, read_prefer_standby };
extern int read_preference;

/// Connects to all targets at once, as the current user; those that are open already cost nothing.
/// `wanted` gets one for each target. `may_be_standby`: order_proc.read_preference counts.
/// Raises 42501 without USAGE on a server, 42704 when there is none, 08001 when one cannot be
/// reached; with `unreachable` (one for each target), such a target's connection is null and the
/// reason stands there. OP503 from a shard that knows a newer coordinator.
void connect(std::span<const Target> targets, std::span<Connection*> wanted,
             bool may_be_standby = false, std::span<const char*> unreachable = {});

/// Opens a connection that broke once more, for the same shard and role. Raises 08001; with
/// `unreachable` it puts the reason there and returns false.
bool reopen(Connection& connection, std::span<const char*> unreachable = {});

/// Finds those lost whose servers have hung up, of open ones that have nothing in flight.
void note_hung_up(std::span<Connection* const> watched);

/// Asks the servers of connections that do not answer, over second ones and all at once, whether
/// they live: false for those that say nothing within order_proc.connect_timeout either. Not for
/// pooled ones: a pooler lets new sessions wait for others. Call it in a memory context that ends
/// soon, the second connections with it at the latest.
void find_living(std::span<Connection* const> silent, std::span<bool> lives);

/// Closes and forgets what libpq holds; the struct stays for the next use.
void close_connection(Connection& connection);

/// All connections of the session, the newest first.
Connection* first_connection();

/// Closes idle connections that were not used for order_proc.idle_timeout; all idle ones with
/// `all`.
void close_idle(bool all);

/// Called when a shard has yet to hear that this server is its coordinator: after a promotion.
using Registrar = void (*)(const Target& target);
void set_registrar(Registrar called);

/// Whether a transaction on a shard is open.
bool in_transaction();

/// What libpq says of a failure, which names host and user: null unless the caller may see the
/// server's options.
const char* reason(const Connection& connection);

/// The name of a foreign server, for messages.
const char* server_name(Oid server);

/// A shard's foreign server was dropped or renamed: 42704.
bool server_exists(Oid server);
void tell_no_server(int level, int shard_id);
[[noreturn]] void raise_no_server(int shard_id);

/// 08006 for a connection that broke.
[[noreturn]] void raise_lost(Connection& connection);

/// Settings and callbacks; once, from _PG_init.
void define_connection_settings();
void watch_servers();

}  // namespace order_proc::remote
