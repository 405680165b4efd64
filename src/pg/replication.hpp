// Synchronous replication: whether commits wait for a standby, and how far one has got.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "access/xlog.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
}

namespace order_proc::pg {

/// Whether a standby has the log up to there, as `level` (of synchronous_commit) asks for it.
/// Neither raises nor allocates.
inline bool replicated(XLogRecPtr end, int level) {
  const int mode = level == SYNCHRONOUS_COMMIT_REMOTE_WRITE   ? SYNC_REP_WAIT_WRITE
                   : level == SYNCHRONOUS_COMMIT_REMOTE_APPLY ? SYNC_REP_WAIT_APPLY
                                                              : SYNC_REP_WAIT_FLUSH;
  LWLockAcquire(SyncRepLock, LW_SHARED);
  const XLogRecPtr reached = WalSndCtl->lsn[mode];
  LWLockRelease(SyncRepLock);
  return reached >= end;
}

inline bool has_synchronous_standbys() {
  return max_wal_senders > 0 && SyncRepStandbyNames != nullptr && *SyncRepStandbyNames != '\0';
}

/// In the callback of a commit: whether the commit waited for a standby in vain.
inline bool commit_lacks_standby() {
  return has_synchronous_standbys() && SyncRepRequested() &&
         !replicated(XactLastCommitEnd, synchronous_commit);
}

}  // namespace order_proc::pg
