// Locks of the library's own: a lock tag beside the users' advisory key space, so that neither
// meets the other.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Users' advisory locks carry 1 or 2 here.
enum class LockKind : uint16 { customer_sequence = 20304, idempotency_key = 20305, slot = 20306 };

inline LOCKTAG lock_tag(LockKind kind, uint64 key) {
  LOCKTAG tag;
  SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(key >> 32), static_cast<uint32>(key),
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
