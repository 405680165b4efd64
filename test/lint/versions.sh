#!/usr/bin/env bash
# versions.sh [TOP]: the control file, META.json, CHANGELOG.md, the SQL scripts and the library's list of layouts
# tell the same version.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

bad=0
default_version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" order_proc.control)
[ -n "$default_version" ] || { echo 'versions: order_proc.control has no default_version' >&2; exit 1; }

# expect WHAT FOUND WANTED
expect() {
  [ "$2" = "$3" ] || { echo "versions: $1 says '$2', order_proc.control asks for '$3'" >&2; bad=1; }
}

# All versions the scripts lead to, ascending, on one line.
script_versions() {
  find sql -name 'order_proc--*.sql' | grep -oE '[0-9]+\.[0-9]+\.sql$' | sed 's/\.sql$//' | sort -uV | xargs
}

# PGXN wants three numbers: 1.4 is 1.4.0 there, and 1.4.1 a release without a new layout.
meta_versions() {
  tr '\n' ' ' <META.json | sed 's/"meta-spec".*//' | grep -oE '"version" *: *"[0-9]+\.[0-9]+' | grep -oE '[0-9.]+$' | sort -u | xargs
}

changelog_version() { sed -n 's/^## *\[\{0,1\}\([0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1; }

# inline constexpr std::array layouts{"1.0", ...}; possibly on several lines, with a type in front of the strings
layout_versions() {
  sed 's|//.*||' src/core/layout.hpp | tr '\n' ' ' | grep -oE '\blayouts *(= *)?\{[^;]*\};' | grep -oE '"[0-9]+\.[0-9]+"' | tr -d '"' | xargs
}

expect META.json "$(meta_versions)" "$default_version"
expect CHANGELOG.md "$(changelog_version)" "$default_version"
expect 'the newest script in sql' "$(script_versions | awk '{print $NF}')" "$default_version"
if [ -f src/core/layout.hpp ]; then
  layouts=$(layout_versions)
  [ "$layouts" = "$(script_versions)" ] || {
    echo "versions: src/core/layout.hpp lists '$layouts', the scripts lead to '$(script_versions)'" >&2
    bad=1
  }
fi

[ "$bad" = 0 ] || exit 1
echo "versions: OK, $default_version everywhere"
