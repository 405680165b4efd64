#!/usr/bin/env bash
# migrations.sh [TOP]: every up script has its way down and the other way round, in one chain from 1.0 to
# default_version. CREATE EXTENSION walks the same chain, so a hole would show as a broken installation.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

bad=0
complain() { echo "migrations: $1" >&2; bad=1; }
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

default_version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" order_proc.control)
[ -f sql/order_proc--1.0.sql ] || complain 'sql/order_proc--1.0.sql is missing'

declare -A next=()
shopt -s nullglob
for script in sql/*.sql; do
  name=${script#sql/order_proc--}
  name=${name%.sql}
  if [[ $name =~ ^([0-9]+\.[0-9]+)--([0-9]+\.[0-9]+)$ ]]; then
    from=${BASH_REMATCH[1]} to=${BASH_REMATCH[2]}
    [ -f "sql/order_proc--$to--$from.sql" ] || complain "$script has no way back, sql/order_proc--$to--$from.sql"
    if older "$from" "$to"; then
      [ -z "${next[$from]:-}" ] || complain "two ways up from $from: ${next[$from]} and $to"
      next[$from]=$to
    fi
  elif [ "$name" != 1.0 ]; then
    complain "$script: not order_proc--1.0.sql, --A--B.sql or --B--A.sql"
  fi
done

version=1.0 steps=0
while [ -n "${next[$version]:-}" ]; do
  version=${next[$version]}
  steps=$((steps + 1))
done
[ "$version" = "$default_version" ] || complain "the chain from 1.0 ends at $version, default_version is $default_version"
[ "$steps" = "${#next[@]}" ] || complain "$((${#next[@]} - steps)) up scripts lie outside the chain from 1.0"

[ "$bad" = 0 ] || exit 1
echo "migrations: OK, 1.0 to $version in $steps steps, each with its way down"
