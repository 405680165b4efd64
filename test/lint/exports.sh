#!/usr/bin/env bash
# exports.sh LIBRARY MAP SCRIPT.sql...: the library exports what the SQL scripts name, and nothing else.
# Old scripts count like new ones: a C symbol that any of them names lives for ever.
set -euo pipefail

# Looked up by name, but by no SQL script.
readonly always='Pg_magic_func _PG_init order_proc_launcher order_proc_worker'

library=$1 map=$2
shift 2
[ $# -gt 0 ] || { echo 'exports: no SQL scripts' >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The scripts on one line each, without comments: AS and its strings may stand on several lines.
sql() { sed 's/--.*//' "$@" | tr '\n' ' '; }

bad=0
complain() { echo "exports: $1" >&2; bad=1; }

sql "$@" | grep -oE "'MODULE_PATHNAME' *, *'[^']*'" | sed "s/.*, *'\(.*\)'/\1/" | sort -u >"$scratch/named" || true
[ -s "$scratch/named" ] || complain 'the SQL scripts name no C function'
if sql "$@" | grep -qE "'MODULE_PATHNAME' *[^, ]"; then complain "a function AS 'MODULE_PATHNAME' without a symbol of its own"; fi

{ cat "$scratch/named"; sed 's/^/pg_finfo_/' "$scratch/named"; tr ' ' '\n' <<<"$always"; } | sort -u >"$scratch/wanted"
nm --dynamic --defined-only "$library" | awk '{print $NF}' | sort -u >"$scratch/exported"

while read -r symbol; do complain "$symbol is missing from $library"; done < <(comm -23 "$scratch/wanted" "$scratch/exported")
while read -r symbol; do complain "$symbol is exported, but no SQL script names it"; done < <(comm -13 "$scratch/wanted" "$scratch/exported")
while read -r symbol; do complain "$symbol lacks the prefix order_proc_"; done < <(grep -v '^order_proc_' "$scratch/named")

# The map must not let through what happens not to exist today.
for pattern in $(tr -d '\n' <"$map" | sed 's|/\*.*\*/||; s/.*global://; s/local:.*//; s/;/ /g'); do
  case $pattern in
    'order_proc_*'|'pg_finfo_order_proc_*'|Pg_magic_func|_PG_init) ;;
    *) complain "$map exports $pattern" ;;
  esac
done

[ "$bad" = 0 ] || exit 1
echo "exports: OK, $(wc -l <"$scratch/named") functions"
