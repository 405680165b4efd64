#!/usr/bin/env bash
# test/pg_upgrade.sh: pg_upgrade of a server with a store, from PostgreSQL 15 to 17, whose packages Debian 13 has. As root:
# a chroot of Debian 13 is made below the work folder (half a gigabyte, some minutes; kept for the next run), the extension
# is built there for 17, and PostgreSQL 15 is copied in with the libraries that Debian 13 no longer has.
#
# Not part of test.sh, which would take too long by it. Skipped, with the reason and status 77, where no chroot can be made.
#   ORDER_PROC_TRIXIE  a chroot that exists; otherwise one of its own
set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "$0")/lib.sh"

readonly new_major=17
skip() { printf 'skipped: %s\n' "$*"; exit 77; }

make_chroot() {
  local root=$1 log=$work/debootstrap.log
  command -v debootstrap >/dev/null || apt_install debootstrap >"$log" 2>&1 || skip "debootstrap cannot be installed, see $log"
  [ -e "$root/etc/apt/sources.list" ] || [ -d "$root/etc/apt/sources.list.d" ] ||
    run_logged debootstrap "$log" debootstrap --variant=minbase --include=ca-certificates,make,g++,postgresql-common trixie "$root" ||
    skip "no Debian 13 is to be had, see $log"
  cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
  mkdir -p "$root/etc/postgresql-common/createcluster.d"
  echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.d/order_proc.conf"
  [ -x "$root/usr/lib/postgresql/$new_major/bin/pg_upgrade" ] ||
    run_logged apt-get "$log" chroot "$root" sh -c "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends postgresql-$new_major postgresql-server-dev-$new_major" ||
    skip "Debian 13 has no PostgreSQL $new_major here, see $log"
}

# The old server, with what of its libraries the new system lacks.
copy_old_server() {
  local root=$1 library name
  mkdir -p "$root$bindir" "$root$("$pg_config" --pkglibdir)" "$root$("$pg_config" --sharedir)" "$root/opt/old_libraries"
  cp -a "$bindir/." "$root$bindir/"
  cp -a "$("$pg_config" --pkglibdir)/." "$root$("$pg_config" --pkglibdir)/"
  cp -a "$("$pg_config" --sharedir)/." "$root$("$pg_config" --sharedir)/"
  while read -r library; do
    name=$(basename "$library")
    [ -e "$root/usr/lib/$(uname -m)-linux-gnu/$name" ] || cp -L "$library" "$root/opt/old_libraries/"
  done < <(for name in postgres psql pg_dump pg_ctl initdb pg_controldata; do ldd "$bindir/$name"; done | awk '$2 == "=>" { print $3 }' | sort -u)
  echo /opt/old_libraries >"$root/etc/ld.so.conf.d/zz-order_proc.conf"
  chroot "$root" ldconfig
}

# in_chroot ROOT COMMAND...: with /proc, which goes with the command.
in_chroot() {
  # shellcheck disable=SC2016
  unshare --mount -- sh -c 'mount -t proc proc "$1/proc" && exec chroot "$@"' - "$@"
}

build() {
  local root=$1
  copy_checkout "$work/old"
  as_user make -C "$work/old" PG_CONFIG="$pg_config" -j "$(nproc)" order_proc.so || return
  make -C "$work/old" PG_CONFIG="$pg_config" DESTDIR="$root" install >/dev/null || return
  rm -rf "$root/opt/order_proc"
  cp -r "$work/old" "$root/opt/order_proc"
  find "$root/opt/order_proc" \( -name '*.o' -o -name '*.so' -o -name '*.d' \) -type f -delete
  chroot "$root" make -C /opt/order_proc PG_CONFIG="/usr/lib/postgresql/$new_major/bin/pg_config" -j "$(nproc)" order_proc.so || return
  # The lints, which every installation runs, read from processes.
  ln -sfn /proc/self/fd "$root/dev/fd"
  in_chroot "$root" make -C /opt/order_proc PG_CONFIG="/usr/lib/postgresql/$new_major/bin/pg_config" install
}

main() {
  [ "$(id -u)" = 0 ] || skip 'only root can make a chroot'
  find_postgres
  open_work "upgrade-$(checkout_name)"
  local root=${ORDER_PROC_TRIXIE:-$work/trixie}
  use_ccache
  make_chroot "$root"
  copy_old_server "$root"
  run_logged build "$work/build.log" build "$root" || { tail -n 20 "$work/build.log"; die "the build failed, see $work/build.log"; }
  install -m 755 "$top/test/pg_upgrade_inside.sh" "$root/opt/pg_upgrade_inside.sh"
  chroot --userspec=postgres:postgres "$root" env HOME=/tmp LC_ALL=C.UTF-8 /opt/pg_upgrade_inside.sh "$bindir" "/usr/lib/postgresql/$new_major/bin"
}

main "$@"
