#!/usr/bin/env bash
# format.sh [TOP]: every C++ file is as clang-format writes it. To mend: clang-format -i FILE
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

# In a tarball there is no git; then all files there are.
sources() { git ls-files -z '*.cpp' '*.hpp' 2>/dev/null || find src test -name '*.[ch]pp' -print0; }

mapfile -d '' files < <(sources)
[ "${#files[@]}" -gt 0 ] || { echo 'format: no C++ files' >&2; exit 1; }
# Other versions of clang-format lay the same code out differently.
clang_format=$(command -v clang-format-14 || command -v clang-format) || { echo 'format: clang-format is not installed' >&2; exit 1; }

if ! "$clang_format" --dry-run --Werror "${files[@]}" 2>/tmp/format.$$; then
  grep -E ': error:' /tmp/format.$$ | sed 's/ error:.*//; s/^/format: /' | sort -u -t: -k2,2 >&2 || true
  rm -f /tmp/format.$$
  echo "format: to mend: $(basename "$clang_format") -i FILE" >&2
  exit 1
fi
rm -f /tmp/format.$$
echo "format: OK, ${#files[@]} files"
