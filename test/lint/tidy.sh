#!/usr/bin/env bash
# tidy.sh BUILD_DIR [SOURCE...]: clang-tidy over the sources (default: all of src), two at a time or as many as
# there are processors. BUILD_DIR holds the compile_commands.json of CMake.
set -euo pipefail

build=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
clang_tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo 'tidy: clang-tidy is not installed' >&2; exit 1; }

sources=("$@")
[ $# -gt 0 ] || mapfile -t sources < <(find src -name '*.cpp' | sort)
[ "${#sources[@]}" -gt 0 ] || { echo 'tidy: no C++ files' >&2; exit 1; }

# The commands are g++'s: clang does not know all of its warnings. What clang-tidy counts beside its findings
# ("1234 warnings generated") says nothing.
# The analyzer spends its default of 225000 nodes on functions that it cannot finish anyway: of src/routing.cpp three took
# three quarters of the time. 75000, as in its mode "shallow", but with everything inlined.
analyzer=(--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes=75000)
printf '%s\0' "${sources[@]}" |
  xargs -0 -n 1 -P "$(nproc)" "$clang_tidy" -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option "${analyzer[@]}" 2> >(grep -vE 'warnings? (generated|treated)' >&2)
echo "tidy: OK, ${#sources[@]} files"
