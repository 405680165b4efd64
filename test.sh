#!/usr/bin/env bash
# test.sh: every test there is. Installs what is missing when root calls it, goes on after a part that fails, and ends
# with a line for each part and the sum: "N passed, N failed".
#
# The extension is installed into private copies of PostgreSQL (test/lib.sh, private_postgres), one for each build to be
# tested. So nothing in the system changes, a running server keeps its library, no rights are needed, and the build
# under the sanitizer needs no swapping of files.
set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "$0")/test/lib.sh"

# A part that takes longer than this many seconds hangs.
readonly limit=1800

as_user_limited() { as_user timeout --kill-after=10 "$limit" "$@"; }

# --- parts and their outcome ------------------------------------------------------------------------------------

# The lines by which pg_regress, pg_isolation_regress, prove, ctest and the lints report one test.
readonly passed_line='\.\.\. ok +[0-9]+ ms|^test/.* \.+ ok$|Test +#[0-9]+: .* Passed|: OK, '
readonly skipped_line='^test/.* \.+ skipped: '
readonly failed_line='\.\.\. FAILED|\.\.\. failed|^test/.*\(Wstat: |Test +#[0-9]+: .*\*\*\*'

count_lines() { grep -cE "$1" "$2" || true; }

# part KIND NAME COMMAND...: KIND tests has to report at least one test; KIND step is one test itself. What a test was
# skipped for is shown.
part() {
  local kind=$1 name=$2 status=0 passed failed skipped began=$SECONDS log verdict line
  shift 2
  log=$work/logs/${name//[^A-Za-z0-9+]/_}.log
  say "$name"
  run_logged "$name" "$log" "$@" || status=$?
  if [ "$kind" = tests ]; then
    passed=$(count_lines "$passed_line" "$log")
    failed=$(count_lines "$failed_line" "$log")
    skipped=$(grep -E "$skipped_line" "$log") || true
    if [ "$status" = 0 ] && [ "$passed" = 0 ] && [ -z "$skipped" ]; then
      echo 'no test was run' >>"$log"
      status=1
    fi
    [ -z "$skipped" ] || say "  $skipped"
  else
    passed=$((status == 0)) failed=0
  fi
  # A part that fails has failed, whatever its lines say.
  [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
  [ "$failed" = 0 ] && verdict='ok    ' || verdict='FAILED'
  # One write, so that the two lanes do not mix their lines.
  printf -v line '%s  %-38s %4d passed %4d failed %5d s' "$verdict" "$name" "$passed" "$failed" $((SECONDS - began))
  printf '%s\n' "$line" >>"$results"
  if [ "$failed" != 0 ]; then
    # Also told at the end: the log of a whole run is long.
    { echo "$name:"; grep -E "$failed_line|^not ok|^#   Failed test|error:" "$log" | head -n 20; } >>"$results.failed"
    echo "--- the end of $log:"
    tail -n 60 "$log"
    echo '---'
  fi
  say "  $line"
}

sum_up() {
  printf '\n'
  [ ! -s "$results.failed" ] || cat "$results.failed"
  cat "$results"
  awk '{ for (i = 2; i <= NF; i++) { if ($i == "passed") passed += $(i - 1); if ($i == "failed") failed += $(i - 1) } }
       END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || passed == 0 }' "$results"
}

# --- without a server --------------------------------------------------------------------------------------------

# From within, so that it finds what is sourced.
shell_scripts() { (cd "$top" && shellcheck -x ./*.sh test/*.sh test/lint/*.sh .ci/run); }

# pgxs FOLDER ARGUMENT...: make in a copy of the checkout; a warning is an error.
pgxs() {
  local tree=$1
  shift
  as_user_limited make -C "$tree" EXTRA_CXXFLAGS=-Werror PG_CONFIG="$pg_config" "$@"
}

# compile FOLDER COMPILER [ARGUMENT...]: one of the two as packagers do, without headers that are compiled before.
compile() { pgxs "$1" CXX="$2" "${@:3}" -j "$(nproc)" all; }
# lints FOLDER COMPILER TARGET...
lints() { pgxs "$1" CXX="$2" -j "$(nproc)" --output-sync=target --keep-going "${@:3}"; }

# cmake_build FOLDER "TARGET..." [option...]
cmake_build() {
  local build=$1 targets
  read -ra targets <<<"$2"
  shift 2
  as_user_limited cmake -S "$work/gcc" -B "$build" -DPG_CONFIG="$pg_config" "$@" &&
    as_user_limited cmake --build "$build" -j "$(nproc)" --target "${targets[@]}"
}

unit_tests() {
  cmake_build "$work/cmake" "unit unit_sanitized" -DCMAKE_CXX_FLAGS=-Werror &&
    as_user_limited ctest --test-dir "$work/cmake" -j "$(nproc)" --output-on-failure --no-tests=error
}

# Every fuzz target for half a minute, starting from the corpus; longer ones are for a developer, see CMakeLists.txt.
fuzz() {
  local source target
  as_user_limited cmake -S "$work/gcc" -B "$work/cmake-fuzz" -DPG_CONFIG="$pg_config" -DFUZZ=ON -DCMAKE_CXX_COMPILER=clang++ || return
  for source in "$work"/gcc/test/unit/fuzz_*.cpp; do
    target=$(basename "$source" .cpp)
    as_user_limited cmake --build "$work/cmake-fuzz" -j "$(nproc)" --target "$target" &&
      as_user mkdir -p "$work/cmake-fuzz/corpus-$target" &&
      as_user_limited "$work/cmake-fuzz/$target" -max_total_time=30 -print_final_stats=1 -artifact_prefix="$work/cmake-fuzz/" \
        "$work/cmake-fuzz/corpus-$target" "$work/gcc/test/unit/corpus" || return
  done
}

tidy() { as_user_limited "$work/gcc/test/lint/tidy.sh" "$work/cmake"; }

# --- with a server -----------------------------------------------------------------------------------------------

stop_servers() {
  local name
  for name in "$@"; do stop_server "$bindir" "$work/$name-server" immediate || true; done
}

# start NAME: a server on the private PostgreSQL of that name. Its log carries SQLSTATEs, see server_log.
start() {
  local folder=$work/$1-server
  start_server "$work/$1-postgres$bindir" "$folder" fsync=off max_connections=60 wal_level=logical \
    max_prepared_transactions=20 "log_line_prefix='%m [%p] %e '" log_min_messages=warning log_min_error_statement=error
}

# The checkout whose suites run against that server; each has its own output.
tree_of() { if [ "$1" = gcc ]; then echo "$work/gcc"; else echo "$work/clang"; fi; }

# against NAME MAKE_ARGUMENT...: a target of the Makefile against that server.
against() {
  local name=$1
  shift
  as_user_limited env PGHOST="$work/$name-server" PGPORT="$server_port" PGUSER=postgres \
    make -C "$(tree_of "$name")" PG_CONFIG="$work/$name-postgres$bindir/pg_config" "$@"
}

pgxs_install() {
  private_postgres "$work/gcc-postgres" &&
    as_user make -C "$work/gcc" EXTRA_CXXFLAGS=-Werror PG_CONFIG="$work/gcc-postgres$bindir/pg_config" install
}

ubsan_install() {
  private_postgres "$work/ubsan-postgres" &&
    cmake_build "$work/cmake-ubsan" order_proc -DSANITIZE=undefined -DFAILPOINTS=ON -DPG_CONFIG="$work/ubsan-postgres$bindir/pg_config" \
      -DPCH=ON -DCMAKE_CXX_FLAGS_RELWITHDEBINFO='-O1 -g1 -DNDEBUG' &&
    as_user cmake --install "$work/cmake-ubsan"
}

# npm's settings are in the caller's HOME, and as_user gives another one.
keep_npm_registry() {
  command -v npm >/dev/null || return 0
  npm_config_registry=$(npm config get registry 2>/dev/null) || return 0
  export npm_config_registry
}

# Suites show their differences, the end of which is what the part prints.
regress() {
  against "$1" installcheck-sql && return 0
  as_user cat "$(tree_of "$1")/output/regression.diffs"
  return 1
}
isolation() {
  against "$1" installcheck-isolation && return 0
  as_user cat "$(tree_of "$1")/output_iso/regression.diffs"
  return 1
}

# No input makes an internal error (XX000), or a crash; whatever a suite expected, the server's log has it all.
server_log() {
  local log=$work/$1-server/log found
  as_user test -s "$log" || { echo "$log is empty"; return 1; }
  found=$(as_user grep -nE ' XX[0-9]{3} (ERROR|FATAL|PANIC)|PANIC:|was terminated by signal|runtime error:|TRAP:' "$log") || return 0
  printf '%s\n' "$found"
  return 1
}

# --- all of it ---------------------------------------------------------------------------------------------------

# Suites use one processor, compilers all there are: two lanes side by side take two thirds of the time.
plain_lane() {
  part step  'install'                          pgxs_install
  part step  'start a server'                   start gcc
  part tests 'SQL suites'                       regress gcc
  part tests 'isolation suites'                 isolation gcc
  part step  'no internal error, no crash'      server_log gcc
  stop_servers gcc
  part tests 'clusters, a driver'               against gcc installcheck-cluster PROVE_FLAGS=-j2
  part step  'fuzzing'                          fuzz
}
sanitizer_lane() {
  part step  'clang-tidy'                       tidy
  part step  'build with UBSan, install'        ubsan_install
  part step  'start a server with it'           start ubsan
  part tests 'SQL suites under UBSan'           regress ubsan
  part tests 'isolation suites under UBSan'     isolation ubsan
  part step  'no finding, error or crash'       server_log ubsan
  stop_servers ubsan
  part tests 'failures, injected and random'    against ubsan installcheck-failures PROVE_FLAGS=-j2
}

main() {
  cd /
  need_packages g++ make cmake clang libclang-rt-dev clang-format clang-tidy libgtest-dev libpq-dev shellcheck libipc-run-perl \
    "postgresql-$pg_major" "postgresql-server-dev-$pg_major" "postgresql-$pg_major-pgtap" \
    "postgresql-$pg_major-tdigest" "postgresql-$pg_major-hll" pgbouncer
  find_postgres
  open_work "test-$(checkout_name)"
  use_ccache
  keep_npm_registry
  as_user mkdir -p "$work/logs"
  results=$(mktemp)
  trap 'stop_servers gcc ubsan; rm -f "$results" "$results.failed"' EXIT
  # shellcheck disable=SC2046
  trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
  stop_servers gcc ubsan
  copy_checkout "$work/gcc"
  copy_checkout "$work/clang"

  part step  'shell scripts'                    shell_scripts
  part step  'build with g++'                   compile "$work/gcc" g++
  part tests 'lints, objects of g++'            lints "$work/gcc" g++ lint
  part step  'build with clang++'               compile "$work/clang" clang++ PCH=1
  part tests 'lints, objects of clang++'        lints "$work/clang" clang++ lint-build lint-self_test
  part tests 'unit tests, plain and sanitized'  unit_tests
  plain_lane &
  sanitizer_lane &
  wait
  sum_up
}

main "$@"
