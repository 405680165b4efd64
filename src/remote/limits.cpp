#include "remote/limits.hpp"

#include <sys/socket.h>

#include "remote/wait.hpp"

extern "C" {
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timeout.h"
}

namespace order_proc::remote {

namespace {

constexpr std::size_t most_servers = 1024;

/// Connections of all sessions to one server of one database.
struct Places {
  Oid database;
  Oid server;
  pg_atomic_uint32 taken;
};

struct Shared {
  slock_t mutex;  ///< for giving entries to servers
  std::array<Places, most_servers> places;
};

Shared* shared = nullptr;
shmem_request_hook_type next_request_hook = nullptr;
shmem_startup_hook_type next_startup_hook = nullptr;
TimeoutId timer = MAX_TIMEOUTS;
bool leaving_watched = false;

void request_memory() {
  if (next_request_hook != nullptr) next_request_hook();
  RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
}

void start_memory() {
  if (next_startup_hook != nullptr) next_startup_hook();
  LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
  bool found;
  auto* const memory =
      static_cast<Shared*>(ShmemInitStruct("order_proc connections", sizeof(Shared), &found));
  if (!found) {
    SpinLockInit(&memory->mutex);
    for (Places& places : memory->places) {
      places.database = places.server = InvalidOid;
      pg_atomic_init_u32(&places.taken, 0);
    }
  }
  shared = memory;
  LWLockRelease(AddinShmemInitLock);
}

void release_all(int, Datum) {
  for (Connection* connection = first_connection(); connection != nullptr;
       connection = connection->next)
    release_place(*connection);
}

/// The entry of the server, made when it has none; null when all are taken.
Places* find_places(Oid server) {
  Places* found = nullptr;
  Places* free_one = nullptr;
  SpinLockAcquire(&shared->mutex);
  for (Places& places : shared->places) {
    if (places.database == MyDatabaseId && places.server == server) found = &places;
    if (free_one == nullptr && pg_atomic_read_u32(&places.taken) == 0) free_one = &places;
    if (found != nullptr) break;
  }
  if (found == nullptr && free_one != nullptr) {
    free_one->database = MyDatabaseId;
    free_one->server = server;
    found = free_one;
  }
  // Taken at once: an entry without connections may be given away.
  if (found != nullptr) pg_atomic_fetch_add_u32(&found->taken, 1);
  SpinLockRelease(&shared->mutex);
  return found;
}

int open_in_session(Oid server) {
  int count = 0;
  for (const Connection* connection = first_connection(); connection != nullptr;
       connection = connection->next)
    if (connection->server == server && connection->placed) ++count;
  return count;
}

/// Takes a place when there is one.
bool take_place(Connection& connection) {
  if (shared == nullptr) {
    if (open_in_session(connection.server) >= max_connections_per_shard) return false;
    connection.placed = true;
    return true;
  }
  Places* const places = find_places(connection.server);
  if (places == nullptr) return false;
  if (pg_atomic_read_u32(&places->taken) > static_cast<uint32>(max_connections_per_shard)) {
    pg_atomic_fetch_sub_u32(&places->taken, 1);
    return false;
  }
  connection.places = &places->taken;
  connection.placed = true;
  return true;
}

bool idle(const Connection& connection) {
  return connection.link != nullptr && connection.depth == 0 && !connection.in_flight &&
         connection.step_count == 0;
}

/// In a signal handler: what it does is a system call and an atomic subtraction. The rest of the
/// closing is the next use's.
void hang_up_idle() {
  const int saved = errno;
  const TimestampTz now = GetCurrentTimestamp();
  for (Connection* connection = first_connection(); connection != nullptr;
       connection = connection->next) {
    if (!idle(*connection) || connection->hung_up || idle_timeout <= 0 ||
        !TimestampDifferenceExceeds(connection->last_used, now, idle_timeout))
      continue;
    connection->hung_up = true;
    (void)shutdown(connection->socket, SHUT_RDWR);
    release_place(*connection);
  }
  errno = saved;
}

}  // namespace

void reserve_place(Connection& connection) {
  if (!leaving_watched) {
    before_shmem_exit(release_all, 0);
    leaving_watched = true;
  }
  const Deadline deadline = after_milliseconds(connect_timeout);
  while (!take_place(connection)) {
    if (passed(deadline))
      ereport(ERROR, errcode(ERRCODE_TOO_MANY_CONNECTIONS),
              errmsg("too many connections to shard %d (server \"%s\")", connection.shard_id,
                     server_name(connection.server)),
              errdetail("order_proc.max_connections_per_shard is %d.", max_connections_per_shard),
              errhint("Raise it, lower order_proc.idle_timeout, or run fewer sessions."));
    (void)wait_ready({}, after_milliseconds(10), Interrupts::serve);
  }
}

void release_place(Connection& connection) {
  if (!connection.placed) return;
  connection.placed = false;
  if (connection.places != nullptr)
    pg_atomic_fetch_sub_u32(static_cast<pg_atomic_uint32*>(connection.places), 1);
  connection.places = nullptr;
}

void watch_idle_connections() {
  if (idle_timeout <= 0) return;
  if (timer == MAX_TIMEOUTS) timer = RegisterTimeout(USER_TIMEOUT, hang_up_idle);
  if (get_timeout_active(timer)) return;
  const int interval = std::clamp(idle_timeout / 4, 50, 60000);
  enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), interval),
                       interval);
}

void define_limits() {
  if (!process_shared_preload_libraries_in_progress) return;
  next_request_hook = shmem_request_hook;
  shmem_request_hook = request_memory;
  next_startup_hook = shmem_startup_hook;
  shmem_startup_hook = start_memory;
}

}  // namespace order_proc::remote
