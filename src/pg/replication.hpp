// Synchronous replication: whether commits wait for a standby, and how far one has got.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
}

namespace order_proc::pg {

/// Under SyncRepLock: as all sessions know by now, whatever this one has read of the settings.
inline bool has_synchronous_standbys() {
#ifdef SYNC_STANDBY_DEFINED
  return max_wal_senders > 0 && (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
#else
  return max_wal_senders > 0 && WalSndCtl->sync_standbys_defined;
#endif
}

/// Whether there should be a standby that has the log up to there, as `level` (of
/// synchronous_commit) asks for it, and none has. Neither raises nor allocates.
inline bool lacks_standby(XLogRecPtr end, int level) {
  const int mode = level == SYNCHRONOUS_COMMIT_REMOTE_WRITE   ? SYNC_REP_WAIT_WRITE
                   : level == SYNCHRONOUS_COMMIT_REMOTE_APPLY ? SYNC_REP_WAIT_APPLY
                                                              : SYNC_REP_WAIT_FLUSH;
  LWLockAcquire(SyncRepLock, LW_SHARED);
  const bool lacks = has_synchronous_standbys() && WalSndCtl->lsn[mode] < end;
  LWLockRelease(SyncRepLock);
  return lacks;
}

/// The end of what has been written to the log, flushed or not. The server tells where the next
/// record begins: when the last one has filled its page, that is behind the header of a page that
/// is not there yet, and neither a flush nor a standby gets so far.
inline XLogRecPtr log_end() {
  const XLogRecPtr next = GetXLogInsertRecPtr();
  const bool begins_segment = XLogSegmentOffset(next, wal_segment_size) < XLOG_BLCKSZ;
  const XLogRecPtr header = begins_segment ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
  return next % XLOG_BLCKSZ == header ? next - header : next;
}

/// In the callback of a commit: whether it waited for a standby in vain.
inline bool commit_lacks_standby() {
  return SyncRepRequested() && lacks_standby(XactLastCommitEnd, synchronous_commit);
}

}  // namespace order_proc::pg
