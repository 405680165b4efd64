// Locks of the library's own: a lock tag beside the users' advisory key space, so that neither
// meets the other.
#pragma once

#include "pg/savepoint.hpp"
#include "pg/user.hpp"

namespace order_proc::pg {

/// Users' advisory locks carry 1 or 2 here.
enum class LockKind : uint16 {
  customer_sequence = 20304,
  idempotency_key = 20305,
  slot = 20306,
  commit = 20307,  ///< by nonce: a transaction over shards, until it has told them how it ended
  fence = 20308,   ///< on a shard: which coordinator may commit there
  worker = 20309,  ///< the one that settles what is in doubt in this database
  import_over_shards = 20310,
  commit_barrier = 20311,  ///< see consistent_cut.cpp
  saga = 20312,            ///< by id: the session that is at it lives
  receipts = 20313         ///< who forgets receipts, or wants none to be forgotten
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

/// Runs `body` with locks going to the (sub)transaction rather than to the query that runs: what a
/// savepoint inside it took is the (sub)transaction's in the end.
template <typename F>
auto as_transaction(F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  const ResourceOwner owner = CurrentResourceOwner;
  CurrentResourceOwner = CurTransactionResourceOwner;
  const auto result = body();
  CurrentResourceOwner = owner;
  return result;
}

/// Takes the lock exclusively, waiting no longer than that; false when it was not to be had. A
/// lock_timeout of the caller's that is shorter raises as ever. To be let go by release_timed_lock.
inline bool acquire_lock_within(LockKind kind, uint64 key, int milliseconds) {
  const LOCKTAG tag = lock_tag(kind, key);
  const auto acquire = [&](bool at_once) {
    return LockAcquire(&tag, ExclusiveLock, false, at_once) != LOCKACQUIRE_NOT_AVAIL;
  };
  if (as_transaction([&] { return acquire(true); })) return true;
  if (milliseconds <= 0) return false;
  // No subtransactions there.
  if (IsInParallelMode()) return as_transaction([&] { return acquire(false); });
  const bool callers = LockTimeout > 0 && LockTimeout <= milliseconds;
  ErrorData* const error = in_savepoint([&] {
    const int nest_level = NewGUCNestLevel();
    if (!callers) set_for_nest_level("lock_timeout", psprintf("%d", milliseconds));
    (void)acquire(false);
    AtEOXact_GUC(false, nest_level);
  });
  if (error == nullptr) return true;
  if (callers || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE) ReThrowError(error);
  FreeErrorData(error);
  return false;
}

inline void release_timed_lock(LockKind kind, uint64 key) {
  const LOCKTAG tag = lock_tag(kind, key);
  (void)as_transaction([&] { return LockRelease(&tag, ExclusiveLock, false); });
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

/// Runs `body`, which may commit, holding the lock as a session: a crash lets it go, too.
template <typename F>
void with_session_lock(LockKind kind, uint64 key, F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  const LOCKTAG tag = lock_tag(kind, key);
  (void)LockAcquire(&tag, ExclusiveLock, true, false);
  PG_TRY();
  { body(); }
  PG_FINALLY();
  { (void)LockRelease(&tag, ExclusiveLock, true); }
  PG_END_TRY();
}

}  // namespace order_proc::pg
