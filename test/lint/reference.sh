#!/usr/bin/env bash
# reference.sh [TOP]: docs/reference.md has a section "### name" for every function, aggregate, procedure, type and view that the
# scripts create in order_proc, every table they create in order_store and every setting of the library, and no other;
# the section of a function gives its signature as the scripts do.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

readonly reference=docs/reference.md
bad=0
complain() { echo "reference: $1" >&2; bad=1; }

# One line, blanks as in "name(a int, b text)".
on_one_line() { tr -s ' \n' ' ' | sed 's/( /(/g; s/ )/)/g'; }

# name(arguments) of all functions and procedures, one a line.
signatures() {
  cat sql/*.sql | on_one_line |
    grep -oE "CREATE (OR REPLACE )?(FUNCTION|PROCEDURE|AGGREGATE) order_proc\.[a-z_0-9]+\(([^()']|'[^']*'|\([^()]*\))*\)" |
    sed -E 's/^CREATE (OR REPLACE )?(FUNCTION|PROCEDURE|AGGREGATE) order_proc\.//'
}

created() {
  signatures | sed 's/(.*//'
  cat sql/*.sql | grep -oE '^CREATE (OR REPLACE )?(TYPE|VIEW) order_proc\.[a-z_0-9]+' | sed 's/.*order_proc\.//' || true
  cat sql/*.sql | grep -oE '^CREATE TABLE order_store\.[a-z_0-9]+' | sed 's/^CREATE TABLE //' || true
  find src -name "*.cpp" -not -name failpoints.cpp -exec cat {} + | tr '\n' ' ' | grep -oE 'DefineCustom[A-Za-z]+Variable\( *"[a-z_.]+"' | sed 's/.*"\(.*\)"/\1/' || true
}

# Headings that are a name; "### Class OP" is none.
described() { sed -nE 's/^### ([a-z_0-9.]+)$/\1/p' "$reference"; }

section() { awk -v heading="### $1" '/^##/ { inside = $0 == heading } inside' "$reference"; }

[ -f "$reference" ] || { echo "reference: there is no $reference" >&2; exit 1; }
names=$(created | sort -u)
[ "$(wc -l <<<"$names")" -gt 10 ] || complain 'found next to nothing in the scripts: are they written in another way?'
while IFS= read -r name; do complain "$name has no section in $reference"; done \
  < <(comm -23 <(echo "$names") <(described | sort -u) | grep . || true)
while IFS= read -r name; do complain "$reference describes $name, which nobody creates"; done \
  < <(comm -13 <(echo "$names") <(described | sort -u) | grep . || true)
while IFS= read -r name; do complain "$reference describes $name twice"; done < <(described | sort | uniq -d)
while IFS= read -r signature; do
  section "${signature%%(*}" | on_one_line | grep -qF -- "$signature" ||
    complain "the section of ${signature%%(*} does not give its signature, $signature"
done < <(signatures | sort -u)

[ "$bad" = 0 ] || exit 1
echo "reference: OK, $(wc -l <<<"$names") names"
