#!/usr/bin/env bash
# self_test.sh: the lints can fail. What they must flag is flagged, what they must let pass passes.
#   samples/clean_*.cpp, samples/trips_*.cpp   one construct each, for the longjmp lint
#   the other lints                            on a small project made here, whole and then broken in one way each
set -euo pipefail
shopt -s nullglob

lint=$(cd "$(dirname "$0")" && pwd)
cxx=${CXX:-g++}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

bad=0 checks=0
# must passes|fails WHAT COMMAND...
must() {
  local wanted=$1 what=$2 outcome=passes
  shift 2
  checks=$((checks + 1))
  "$@" >"$scratch/output" 2>&1 || outcome=fails
  if [ "$outcome" != "$wanted" ]; then
    echo "self test: $what $outcome, but must not; it said:" >&2
    sed 's/^/  /' "$scratch/output" >&2
    bad=1
  fi
}
# Whether the last command said so, too: a lint that fails for another reason proves nothing.
said() {
  checks=$((checks + 1))
  grep -qE -- "$1" "$scratch/output" || { echo "self test: expected '$1' to be said, heard:" >&2; sed 's/^/  /' "$scratch/output" >&2; bad=1; }
}

# compile SOURCE OBJECT SWITCH...
compile() {
  local source=$1 object=$2
  shift 2
  # CXX may be two words, such as "ccache g++".
  # shellcheck disable=SC2086
  $cxx -std=gnu++20 -fPIC -g -frecord-gcc-switches "$@" -c "$source" -o "$object"
}

longjmp_lint() {
  local source object=$scratch/sample.o level
  for source in "$lint"/samples/clean_*.cpp; do
    for level in -O1 -O2 -O3; do
      compile "$source" "$object" "$level"
      must passes "longjmp.sh on $(basename "$source") $level" "$lint/longjmp.sh" "$object"
      said OK
    done
  done
  for source in "$lint"/samples/trips_*.cpp; do
    compile "$source" "$object" -O2
    must fails "longjmp.sh on $(basename "$source")" "$lint/longjmp.sh" "$object"
    said 'sample.o: '
  done

  # Of several objects, the one that it is.
  compile "$lint/samples/trips_guard.cpp" "$object" -O2
  for source in "$lint"/samples/clean_*.cpp; do compile "$source" "$scratch/$(basename "$source").o" -O2; done
  must passes 'longjmp.sh on several objects' "$lint/longjmp.sh" "$scratch"/clean_*.o
  must fails 'longjmp.sh on several objects, the last of which trips' "$lint/longjmp.sh" "$scratch"/clean_*.o "$object"
  said 'sample.o: '
  must fails 'longjmp.sh on several objects, the first of which trips' "$lint/longjmp.sh" "$object" "$scratch"/clean_*.o
  said 'sample.o: '
  must fails 'longjmp.sh on several objects, one of which is none' "$lint/longjmp.sh" "$scratch"/clean_*.o "$source"
  said "$source: neither"
  must fails 'longjmp.sh on an object that is not there' "$lint/longjmp.sh" "$scratch"/clean_*.o "$scratch/none.o"

  source=$lint/samples/trips_guard.cpp
  compile "$source" "$object" -O2 -O0
  must passes 'longjmp.sh at -O0' "$lint/longjmp.sh" "$object"
  said '1 objects NOT judged'
  compile "$source" "$object" -O2 -fno-exceptions
  must fails 'longjmp.sh with -fno-exceptions' "$lint/longjmp.sh" "$object"
  said 'fno-exceptions'
  compile "$source" "$object" -O2 -flto
  must fails 'longjmp.sh with -flto alone' "$lint/longjmp.sh" "$object"
  compile "$source" "$object" -O2
  objcopy --remove-section .GCC.command.line "$object"
  must fails 'longjmp.sh without recorded switches' "$lint/longjmp.sh" "$object"
  said 'frecord-gcc-switches'
  must fails 'longjmp.sh without objects' "$lint/longjmp.sh"
}

exports_lint() {
  local library=$scratch/sample.so map=$scratch/order_proc.map script=$scratch/order_proc--1.0.sql
  cp "$lint/../../src/order_proc.map" "$map"
  cat >"$scratch/exports.cpp" <<'CPP'
extern "C" {
int Pg_magic_func() { return 0; }
void _PG_init() {}
void order_proc_launcher() {}
void order_proc_worker() {}
int order_proc_one() { return 1; }
int pg_finfo_order_proc_one() { return 1; }
}
namespace order_proc { int helper() { return 2; } }
CPP
  # shellcheck disable=SC2086
  $cxx -shared -fPIC -Wl,--version-script="$map" "$scratch/exports.cpp" -o "$library"
  printf "CREATE FUNCTION order_proc.one() RETURNS int\nLANGUAGE c AS 'MODULE_PATHNAME',\n  'order_proc_one';\n" >"$script"
  must passes 'exports.sh on a matching pair' "$lint/exports.sh" "$library" "$map" "$script"

  cp "$script" "$scratch/more.sql"
  echo "CREATE FUNCTION order_proc.two() RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_two';" >>"$scratch/more.sql"
  must fails 'exports.sh with a symbol missing' "$lint/exports.sh" "$library" "$map" "$scratch/more.sql"
  said 'order_proc_two is missing'
  echo "CREATE FUNCTION order_proc.one() RETURNS int LANGUAGE c AS 'MODULE_PATHNAME';" >>"$script"
  must fails 'exports.sh with a function without symbol' "$lint/exports.sh" "$library" "$map" "$script"
  said 'without a symbol'
  echo "SELECT 1;" >"$script"
  must fails 'exports.sh with a symbol too many' "$lint/exports.sh" "$library" "$map" "$script"
  said 'order_proc_one is exported'
  sed 's/_PG_init;/_PG_init; *helper*;/' "$lint/../../src/order_proc.map" >"$map"
  must fails 'exports.sh with a wider map' "$lint/exports.sh" "$library" "$map" "$scratch/more.sql"
  said 'map exports'
}

# A project of two versions that every lint over files accepts.
make_project() {
  rm -rf "$scratch/project"
  mkdir -p "$scratch/project"/{sql,src/core,src/pg,expected,test/sql,test/cluster,test/isolation/specs,test/isolation/expected}
  cd "$scratch/project"
  touch sql/order_proc--1.0.sql sql/order_proc--1.0--1.1.sql sql/order_proc--1.1--1.0.sql
  touch expected/orders.out test/sql/orders.sql test/isolation/specs/keys.spec test/isolation/expected/keys.out
  echo "default_version = '1.1'" >order_proc.control
  printf '{ "version": "1.1.0", "provides": { "order_proc": { "version": "1.1.0" } },\n "meta-spec": { "version": "1.0.0" } }\n' >META.json
  printf '# Changelog\n\n## 1.1 (unreleased)\n\n## 1.0\n' >CHANGELOG.md
  echo 'test: orders' >test/schedule
  echo 'done_testing();' >test/cluster/crash.pl
  printf 'inline constexpr std::array<std::string_view, 2> layouts{\n    "1.0", "1.1"};  // "1.2" one day\n' >src/core/layout.hpp
  printf '#include "layout.hpp"\n#include <array>\n#include "core/layout.hpp"\n' >src/core/layout.cpp
  printf '#include "core/layout.hpp"\n#include "postgres.h"\n#include "nodes/nodeFuncs.h"\n#if PG_VERSION_NUM >= 160000\n#endif\n' >src/pg/compat.hpp
  printf '#include "pg/compat.hpp"\n#include <array>\n' >src/orders.cpp
  cd - >/dev/null
}

# break_project LINT WHAT SAID COMMAND: the lint accepts the project, and no longer after the command.
break_project() {
  local script=$1 what=$2 says=$3 command=$4
  make_project
  must passes "$script on a sound project" "$lint/$script" "$scratch/project"
  (cd "$scratch/project" && eval "$command")
  must fails "$script with $what" "$lint/$script" "$scratch/project"
  said "$says"
}

file_lints() {
  break_project migrations.sh 'a way down missing' 'no way back' 'rm sql/order_proc--1.1--1.0.sql'
  break_project migrations.sh 'a way up missing' 'no way back' 'rm sql/order_proc--1.0--1.1.sql'
  break_project migrations.sh 'no base' 'is missing' 'rm sql/order_proc--1.0.sql'
  break_project migrations.sh 'a chain too short' 'ends at 1.1' "echo \"default_version = '1.2'\" >order_proc.control"
  break_project migrations.sh 'a hole in the chain' 'outside the chain' 'touch sql/order_proc--1.2--1.10.sql sql/order_proc--1.10--1.2.sql'
  break_project migrations.sh 'a fork' 'two ways up' 'touch sql/order_proc--1.0--1.2.sql sql/order_proc--1.2--1.0.sql'
  break_project migrations.sh 'a stray script' 'order_proc--9.sql' 'touch sql/order_proc--9.sql'

  break_project versions.sh 'another META.json' 'META.json' "sed -i 's/1\\.1\\.0/1.0.0/' META.json"
  break_project versions.sh 'another changelog' 'CHANGELOG' "sed -i '/1\\.1/d' CHANGELOG.md"
  break_project versions.sh 'another script' 'newest script' 'touch sql/order_proc--1.1--1.2.sql'
  break_project versions.sh 'another layout' 'layout.hpp' "sed -i 's/, \"1\\.1\"//' src/core/layout.hpp"

  break_project scheduled.sh 'a suite not scheduled' '0 times' 'echo "# nothing" >test/schedule'
  break_project scheduled.sh 'a suite twice' '2 times' 'echo "test: orders" >>test/schedule'
  break_project scheduled.sh 'a suite gone' 'names batch' 'echo "test: batch" >>test/schedule'
  break_project scheduled.sh 'nothing expected' 'no expected' 'rm expected/orders.out'
  break_project scheduled.sh 'an orphan' 'belongs to no test' 'touch expected/old.out'
  break_project scheduled.sh 'a spec without expected' 'no test/isolation' 'rm test/isolation/expected/keys.out'
  break_project scheduled.sh 'a TAP file without end' 'done_testing' 'echo 1 >test/cluster/crash.pl'
  break_project scheduled.sh 'a TAP file that never runs' 'never run' 'touch test/cluster/crash.t'

  break_project layers.sh 'PostgreSQL in the core' 'core stands' "echo '#include \"postgres.h\"' >>src/core/layout.cpp"
  break_project layers.sh 'the boundary in the core' 'core stands' "echo '#include \"pg/compat.hpp\"' >>src/core/layout.cpp"
  break_project layers.sh 'a capability in the boundary' 'boundary knows' "touch src/orders.hpp; echo '#include \"orders.hpp\"' >>src/pg/compat.hpp"
  break_project layers.sh 'the version asked elsewhere' 'only src/pg' "echo '#if PG_VERSION_NUM > 1' >>src/orders.cpp"
}

longjmp_lint
failpoints_lint() {
  local library=$scratch/sample.so
  echo 'const char* order_proc_one() { return "plain"; }' >"$scratch/failpoints.cpp"
  $cxx -g -shared -fPIC "$scratch/failpoints.cpp" -o "$library"
  must passes 'failpoints.sh on a library without' "$lint/failpoints.sh" "$library"
  echo 'const char* order_proc_one() { return "order_proc.failpoint"; }' >"$scratch/failpoints.cpp"
  $cxx -g -shared -fPIC "$scratch/failpoints.cpp" -o "$library"
  must fails 'failpoints.sh on one with a setting' "$lint/failpoints.sh" "$library"
  said 'for tests only'
}

exports_lint
failpoints_lint
file_lints
[ "$bad" = 0 ] || exit 1
echo "self test: OK, $checks checks of the lints with $cxx"
