#!/usr/bin/env bash
# scheduled.sh [TOP]: every test runs, and every test that runs is compared with something.
# Isolation specs, TAP files and unit tests are taken by wildcard (Makefile, CMakeLists.txt); what they can lack
# is an expected file or an end.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
shopt -s nullglob

bad=0 checked=0
complain() { echo "scheduled: $1" >&2; bad=1; }

[ -f test/schedule ] || { echo 'scheduled: there is no test/schedule' >&2; exit 1; }
scheduled=$(sed -n 's/^test: *//p' test/schedule | tr -s ' ' '\n')
for file in test/sql/*.sql; do
  name=$(basename "$file" .sql)
  times=$(grep -cxF -- "$name" <<<"$scheduled" || true)
  [ "$times" = 1 ] || complain "$file stands $times times in test/schedule"
  [ -f "expected/$name.out" ] || complain "$file has no expected/$name.out"
  checked=$((checked + 1))
done
for name in $scheduled; do
  [ -f "test/sql/$name.sql" ] || complain "test/schedule names $name, there is no test/sql/$name.sql"
done
for file in expected/*.out; do
  name=$(basename "$file" .out)
  # name_1.out is a second accepted output of name
  [ -f "test/sql/$name.sql" ] || [ -f "test/sql/${name%_[0-9]}.sql" ] || complain "$file belongs to no test"
done

for file in test/isolation/specs/*.spec; do
  name=$(basename "$file" .spec)
  [ -f "test/isolation/expected/$name.out" ] || complain "$file has no test/isolation/expected/$name.out"
  checked=$((checked + 1))
done
for file in test/isolation/expected/*.out; do
  name=$(basename "$file" .out)
  [ -f "test/isolation/specs/$name.spec" ] || [ -f "test/isolation/specs/${name%_[0-9]}.spec" ] || complain "$file belongs to no spec"
done

for file in test/cluster/*; do
  case $file in
    *.pl)
      grep -qE '^\s*done_testing|tests *=>' "$file" || complain "$file has neither a plan nor done_testing: dying half way would pass"
      checked=$((checked + 1))
      ;;
    *.pm) ;;
    *) complain "$file is no .pl and would never run" ;;
  esac
done

[ "$checked" -gt 0 ] || complain 'there are no tests'
[ "$bad" = 0 ] || exit 1
echo "scheduled: OK, $checked test files"
