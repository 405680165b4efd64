// Locks of the library's own: a lock tag beside the users' advisory key space, so that neither
// meets the other.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Users' advisory locks carry 1 or 2 here.
enum class LockKind : uint16 {
  customer_sequence = 20304,
  idempotency_key = 20305,
  slot = 20306,
  commit = 20307,  ///< by nonce: a transaction over shards, until it has told them how it ended
  fence = 20308,   ///< on a shard: which coordinator may commit there
  worker = 20309,  ///< the one that settles what is in doubt in this database
  import_over_shards = 20310
};

inline LOCKTAG lock_tag(LockKind kind, uint64 key, Oid database = MyDatabaseId) {
  LOCKTAG tag;
  SET_LOCKTAG_ADVISORY(tag, database, static_cast<uint32>(key >> 32), static_cast<uint32>(key),
                       static_cast<uint16>(kind));
  return tag;
}

inline void acquire_lock(LockKind kind, uint64 key) {
  const LOCKTAG tag = lock_tag(kind, key);
  (void)LockAcquire(&tag, ExclusiveLock, false, false);
}

inline void release_lock(LockKind kind, uint64 key) {
  const LOCKTAG tag = lock_tag(kind, key);
  (void)LockRelease(&tag, ExclusiveLock, false);
}

/// Whether another session holds the lock exclusively.
inline bool is_locked(LockKind kind, uint64 key, Oid database = MyDatabaseId) {
  const LOCKTAG tag = lock_tag(kind, key, database);
  if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL) return true;
  (void)LockRelease(&tag, ShareLock, false);
  return false;
}

/// Runs `body` holding the lock exclusively; an ERROR in it releases the lock with the
/// (sub)transaction.
template <typename F>
auto with_lock(LockKind kind, uint64 key, F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>> && Jumpable<std::invoke_result_t<F>>);
  acquire_lock(kind, key);
  if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
    body();
    release_lock(kind, key);
  } else {
    const auto result = body();
    release_lock(kind, key);
    return result;
  }
}

}  // namespace order_proc::pg
