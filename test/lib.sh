# shellcheck shell=bash
# What demo.sh and test.sh share: packages, a copy of the checkout to build in, throw-away servers.
#
# PostgreSQL never runs as root, and PGXS cannot build in a folder with blanks in its name. So the checkout is copied
# to a work folder without blanks that belongs to the user of the servers, and is built there by that user:
#   root calls       user postgres; what is missing is installed by apt-get
#   anybody else     the caller; uses what is installed and says what is missing
# The work folder stays, so that a second run compiles only what changed.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly top

# PostgreSQL's and make's variables of the caller would lead our programs elsewhere.
for variable in ${!PG@}; do
  case $variable in PG_CONFIG|PG_MAJOR) ;; *) unset "$variable" ;; esac
done
unset variable MAKEFLAGS MAKELEVEL MFLAGS CDPATH GREP_OPTIONS
export LC_ALL=C.UTF-8 TZ=UTC

readonly pg_major=${PG_MAJOR:-15}
# Empty until the packages are there; see find_postgres.
pg_config=${PG_CONFIG:-}

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# --- who ------------------------------------------------------------------------------------------------------

# Runs a command as the user the servers run as, in the work folder: that user may not enter the caller's.
as_user() {
  if [ "$(id -u)" = 0 ]; then
    runuser -u postgres -- env -C "${work:-/}" HOME="${work:-/}" "$@"
  else
    env -C "${work:-/}" "$@"
  fi
}

user_name() { if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi; }

# --- packages -------------------------------------------------------------------------------------------------

# run_logged WHAT LOG COMMAND...: the output goes to LOG, and a line of progress to us every 15 s.
run_logged() {
  local what=$1 log=$2 began=$SECONDS status=0 beat
  shift 2
  # read on a pipe nobody writes to is a sleep that ends with its shell. The lock, descriptor 9, is not the beat's.
  { while ! read -rt 15 _ <> <(:) && kill -0 $$ 2>/dev/null; do say "  $what: $((SECONDS - began)) s so far"; done; } 9>&- &
  beat=$!
  "$@" >"$log" 2>&1 || status=$?
  kill "$beat" 2>/dev/null || true
  wait "$beat" 2>/dev/null || true
  return "$status"
}

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@"; }

apt_install() {
  local attempt
  for attempt in 1 2 3; do
    apt update && apt install --no-install-recommends "$@" && return 0
    echo "attempt $attempt failed"
    sleep $((attempt * 5))
  done
  return 1
}

# The server's package would make a cluster of its own and start it; nobody asked for that.
apt_install_without_cluster() {
  local setting=/etc/postgresql-common/createcluster.d/order_proc.conf status=0
  if [ ! -e "$setting" ] && [ ! -d "/etc/postgresql/$pg_major" ]; then
    mkdir -p "$(dirname "$setting")"
    echo 'create_main_cluster = false' >"$setting"
  else
    setting=
  fi
  apt_install "$@" || status=$?
  [ -z "$setting" ] || rm -f "$setting"
  return "$status"
}

# need_packages PACKAGE...: installs those that are missing, or tells an unprivileged caller.
need_packages() {
  local missing log
  command -v dpkg-query >/dev/null || { say 'this is no Debian: using what is installed'; return; }
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    say "not installed, and only root could: ${missing[*]}"
    say "  sudo apt-get install ${missing[*]}"
    say '  going on with what there is'
    return 0
  fi
  say "installing ${#missing[@]} packages: ${missing[*]}"
  log=$(mktemp)
  run_logged 'apt-get' "$log" apt_install_without_cluster "${missing[@]}" || {
    tail -n 20 "$log" >&2
    die "apt-get could not install ${missing[*]}; its whole output is in $log"
  }
  rm -f "$log"
}

# Sets pg_config and bindir.
find_postgres() {
  [ -n "$pg_config" ] || pg_config=/usr/lib/postgresql/$pg_major/bin/pg_config
  [ -x "$pg_config" ] || pg_config=$(command -v pg_config) || die "PostgreSQL is not installed (no pg_config; set PG_CONFIG if it stands somewhere unusual)"
  bindir=$("$pg_config" --bindir)
  [ -x "$bindir/postgres" ] || die "there is no server in $bindir"
  [ -f "$("$pg_config" --pgxs)" ] || die "the server's development files are missing (postgresql-server-dev-$pg_major)"
  id "$(user_name)" >/dev/null 2>&1 || die 'there is no user postgres to run the servers as'
}

# --- the work folder ------------------------------------------------------------------------------------------

# open_work NAME: sets work, a folder of the servers' user, without blanks, kept from run to run; one run at a time.
open_work() {
  local base=${TMPDIR:-/tmp} folder
  # A socket's path has 107 bytes at most, and the servers' sockets are in there.
  if [[ $base == *[[:space:]]* || ${#base} -gt 50 ]] || ! as_user test -w "$base"; then base=/tmp; fi
  folder=$base/order_proc-$(user_name)
  as_user mkdir -p -m 700 "$folder"
  if [ -L "$folder" ] || [ "$(stat -c %U "$folder")" != "$(user_name)" ]; then die "$folder belongs to somebody else"; fi
  as_user mkdir -p "$folder/$1"
  work=$folder/$1
  exec 9<"$work"
  flock -n 9 || die "another run is busy in $work"
}

# A name for this checkout: two of them do not share their objects.
checkout_name() { printf '%s' "$top" | cksum | cut -d ' ' -f 1; }

# The project's files, each ended by a NUL: what git knows and what it does not ignore, or everything but products.
project_files() {
  if git -C "$top" -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1; then
    git -C "$top" -c safe.directory='*' ls-files -z --cached --others --exclude-standard
  else
    (cd "$top" && find . \( -name .git -o -path './build*' -o -path ./output -o -path ./output_iso -o -path ./tmp_check \) -prune \
      -o \( -type f -o -type l \) -not -name '*.o' -not -name '*.so' -not -name '*.d' -printf '%P\0')
  fi
}

# copy_checkout TREE: brings TREE to the checkout's state. Times are kept, so make compiles only what changed.
copy_checkout() {
  local tree=$1 list
  list=$(mktemp)
  # A file that was removed but not yet committed is known to git, and not there.
  (cd "$top" && project_files | while IFS= read -r -d '' file; do [ -e "$file" ] || [ -L "$file" ] || continue; printf '%s\0' "$file"; done) | sort -zu >"$list"
  as_user mkdir -p "$tree"
  tar -C "$top" --null --no-recursion -T "$list" -cf - | as_user tar -C "$tree" --warning=no-timestamp -xf -
  # What the checkout no longer has must not be built any more.
  # shellcheck disable=SC2016
  as_user bash -c 'cd "$1" || exit
    touch .manifest; sort -zu >.manifest.new
    comm -z -13 .manifest.new .manifest | xargs -0r rm -f --
    mv .manifest.new .manifest' - "$tree" <"$list"
  rm -f "$list"
}

# Quicker when it happens to be installed.
use_ccache() {
  [ -d /usr/lib/ccache ] && command -v ccache >/dev/null || return 0
  export PATH=/usr/lib/ccache:$PATH CCACHE_DIR=$work/ccache
}

# private_postgres PREFIX: a PostgreSQL of our own, into which the extension is installed without touching the
# system's. The server finds its libraries and scripts relative to its own executable, so the executables are
# copied and everything else is links, each under PREFIX where it is under / otherwise. Prints its pg_config.
private_postgres() {
  local prefix=$1 folder
  as_user rm -rf "$prefix"
  as_user mkdir -p "$prefix"
  as_user cp -r --parents "$bindir" "$prefix"
  as_user cp -rs --parents "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)" "$prefix"
  for folder in $("$pg_config" --includedir --libdir --includedir-server); do
    [ ! -e "$prefix$folder" ] || continue
    as_user mkdir -p "$(dirname "$prefix$folder")"
    as_user ln -s "$folder" "$prefix$folder"
  done
  # An order_proc that is installed in the system is not the one we mean.
  as_user find "$prefix" -name 'order_proc*' -delete
  echo "$prefix$bindir/pg_config"
}

# --- servers --------------------------------------------------------------------------------------------------

# The port only names the socket: servers listen on no network address.
readonly server_port=54321

# start_server BINDIR FOLDER [SETTING...]: a new cluster in FOLDER/data, its socket and log in FOLDER.
start_server() {
  local bindir=$1 folder=$2 setting
  shift 2
  as_user rm -rf "$folder"
  as_user mkdir -p -m 700 "$folder"
  as_user "$bindir/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions >/dev/null
  for setting in "listen_addresses=''" "unix_socket_directories='$folder'" "port=$server_port" "$@"; do echo "$setting"; done |
    as_user tee -a "$folder/data/postgresql.conf" >/dev/null
  # Descriptor 9 is the lock of the run; the server outlives it.
  as_user "$bindir/pg_ctl" -D "$folder/data" -l "$folder/log" -w -t 60 start >/dev/null 9>&- || {
    as_user tail -n 20 "$folder/log" >&2
    return 1
  }
}

# stop_server BINDIR FOLDER [MODE]: the server of FOLDER, if it runs. Its process id is the one it wrote down,
# unless another process has that id by now.
stop_server() {
  local bindir=$1 folder=$2 mode=${3:-fast} pid
  pid=$(as_user head -n 1 "$folder/data/postmaster.pid" 2>/dev/null) || return 0
  grep -qsF -- "$folder/data" "/proc/$pid/cmdline" || return 0
  as_user "$bindir/pg_ctl" -D "$folder/data" -m "$mode" -w -t 60 stop >/dev/null
}
