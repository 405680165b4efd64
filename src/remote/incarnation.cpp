// The number of the data directory is made of the inode and the time of birth of a file that
// nothing ever writes again. A copy has others; chmod, chown and a move of the folder change
// neither. What is copied below the file system (a snapshot of the volume) cannot be told apart.
#include "remote/incarnation.hpp"

#include <fcntl.h>
#include <sys/stat.h>

extern "C" {
#include "access/xlog.h"
}

namespace order_proc::remote {

namespace {

int64 number_of_data_directory() {
  std::array<char, MAXPGPATH> path;
  snprintf(path.data(), path.size(), "%s/PG_VERSION", DataDir);
  struct stat file;
  if (stat(path.data(), &file) != 0)
    ereport(ERROR, errcode_for_file_access(),
            errmsg("could not stat file \"%s\": %m", path.data()));
  std::array<int64, 3> parts{static_cast<int64>(file.st_ino), 0, 0};
#ifdef STATX_BTIME
  struct statx born;
  if (statx(AT_FDCWD, path.data(), 0, STATX_BTIME, &born) == 0 &&
      (born.stx_mask & STATX_BTIME) != 0) {
    parts[1] = born.stx_btime.tv_sec;
    parts[2] = born.stx_btime.tv_nsec;
  }
#endif
  return static_cast<int64>(hash_bytes_extended(
      reinterpret_cast<const unsigned char*>(parts.data()), static_cast<int>(sizeof parts), 0));
}

}  // namespace

Incarnation incarnation() {
  static int64 instance = 0;
  if (RecoveryInProgress()) return {0, 0};
  if (instance == 0) instance = number_of_data_directory();
  return {GetWALInsertionTimeLine(), instance};
}

}  // namespace order_proc::remote
