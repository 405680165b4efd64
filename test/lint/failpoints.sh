#!/usr/bin/env bash
# failpoints.sh LIBRARY: a library that is not built for the tests of failures has no way to fail on command.
set -euo pipefail

library=$1
if strings --data "$library" | grep -qi failpoint || nm "$library" | grep -qi failpoint; then
  echo "failpoints: $library was compiled with ORDER_PROC_FAILPOINTS; it is for tests only" >&2
  exit 1
fi
echo 'failpoints: OK, none'
