#!/usr/bin/env bash
# layers.sh [TOP]: calls go downwards only.
#   src/core       knows the standard library and itself, no PostgreSQL
#   src/pg         knows PostgreSQL and the core, and alone asks which PostgreSQL it is
#   src, src/remote stand on both
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

bad=0

# Prints "file:line: include" for what FOLDER's files include beyond ALLOWED, an expression over <...> or "...".
# A bare "name.hpp" is a neighbour, when there is one.
includes_beyond() {
  local folder=$1 allowed=$2 files line included
  mapfile -t files < <(find "$folder" -name '*.[ch]pp' | sort)
  while IFS= read -r line; do
    included=$(sed -E 's/.*#\s*include\s*//; s/\s*(\/\/.*)?$//' <<<"$line")
    grep -qxE -- "$allowed" <<<"$included" && continue
    [[ $included =~ ^\"([a-z_0-9]+\.hpp)\"$ && -f $folder/${BASH_REMATCH[1]} ]] && continue
    echo "$line"
  done < <(grep -nE '^\s*#\s*include\b' "${files[@]}" /dev/null)
}

# report WHAT FINDINGS
report() {
  local line
  [ -n "$2" ] || return 0
  while IFS= read -r line; do echo "layers: $1: $line" >&2; done <<<"$2"
  bad=1
}

mapfile -t files < <(find src -name '*.[ch]pp' | sort)
[ "${#files[@]}" -gt 0 ] || { echo 'layers: no C++ files in src' >&2; exit 1; }
mapfile -t outside_pg < <(printf '%s\n' "${files[@]}" | grep -v '^src/pg/')

[ ! -d src/core ] || report 'the core stands on nothing' "$(includes_beyond src/core '<[a-z_0-9]+>|"core/.*"')"
[ ! -d src/pg ] || report 'the boundary knows no capability' "$(includes_beyond src/pg '<.*>|"(core|pg)/.*"|"[A-Za-z_0-9]+(/[A-Za-z_0-9]+)*\.h"')"
report 'only src/pg asks for the version of PostgreSQL' \
  "$(grep -nE '^\s*#\s*(if|elif|ifdef|ifndef)\b.*\bPG_(VERSION_NUM|MAJORVERSION)' "${outside_pg[@]}" /dev/null || true)"

[ "$bad" = 0 ] || exit 1
echo "layers: OK, ${#files[@]} files"
