#!/usr/bin/env bash
# longjmp.sh OBJECT...: nothing with a destructor is alive across a PostgreSQL call, and nothing throws.
#
# ereport(ERROR) is a siglongjmp: destructors on the frames it jumps over never run. A function that needs a
# destructor run on the way out has a landing pad, and a landing pad needs a symbol of the C++ runtime; so do a
# throw and operator new. The objects' undefined symbols therefore tell. What is asked differs by compiler:
#   g++    __gxx_personality_v0: only there when a landing pad is.
#   clang  keeps the personality after the landing pad is optimised away, so: what a landing pad calls.
# At -O0 both have landing pads that no destructor asked for: not judged. With -fno-exceptions there are none at
# all: refused. How an object was compiled is read from the object (-frecord-gcc-switches), not believed.
set -euo pipefail

# A non-constant static local takes a guard that an ereport in its initialiser leaves locked for ever; a throw
# crosses C frames and ends the server.
readonly everywhere='__cxa_guard_acquire|__cxa_throw|__cxa_rethrow|__cxa_throw_bad_array_new_length|__cxa_bad_cast|__cxa_bad_typeid|__cxa_allocate_exception|_Znw.*|_Zna.*|_ZSt[0-9]*__throw_.*'
declare -rA landing_pad=(
  [gcc]='__gxx_personality_v0'
  [clang]='_Unwind_Resume|__clang_call_terminate|_ZSt9terminatev|__cxa_begin_catch'
)

# The compiler that made the object and, for g++ and clang alike, the switches it was given.
section() { readelf -p "$1" "$2" 2>/dev/null | sed -n 's/^ *\[ *[0-9a-f]*\] *//p'; }

compiler_of() {
  case $(section .comment "$1") in
    *clang*) echo clang ;;
    *GCC*) echo gcc ;;
    *) echo unknown ;;
  esac
}

# What forbids judging the object, if anything.
obstacle() {
  local object=$1 switches level
  [ -r "$object" ] || { echo 'no such file'; return; }
  [ "$(compiler_of "$object")" != unknown ] || { echo 'neither g++ nor clang made it (or it is LTO bytecode)'; return; }
  switches=" $(section .GCC.command.line "$object") "
  [ "$switches" != '  ' ] || { echo 'does not say how it was compiled, add -frecord-gcc-switches'; return; }
  [[ $switches != *' -fno-exceptions '* ]] || { echo 'compiled with -fno-exceptions, which hides what is looked for'; return; }
  if [[ $switches == *' -flto'* && $switches != *' -ffat-lto-objects '* ]]; then
    echo 'compiled with -flto but without -ffat-lto-objects'
    return
  fi
  level=$(grep -oE -- ' -O[^ ]*' <<<"$switches" | tail -n 1 || true)
  case $level in
    ''|' -O0') echo 'O0' ;;
  esac
}

offences() {
  local object=$1 compiler
  compiler=$(compiler_of "$object")
  nm --undefined-only "$object" | awk '{print $NF}' | grep -xE "$everywhere|${landing_pad[$compiler]}" || true
  # A static with a constructor runs at LoadLibrary, where nobody catches anything.
  if readelf -SW "$object" | grep -qE ' \.(init_array|ctors)'; then echo 'a static object with a constructor (.init_array)'; fi
}

main() {
  local object why found bad=0 judged=0 unoptimised=0
  [ $# -gt 0 ] || { echo 'longjmp: no objects to judge' >&2; exit 1; }
  for object in "$@"; do
    why=$(obstacle "$object")
    if [ "$why" = O0 ]; then
      unoptimised=$((unoptimised + 1))
    elif [ -n "$why" ]; then
      echo "longjmp: $object: $why" >&2
      bad=1
    else
      judged=$((judged + 1))
      found=$(offences "$object" | c++filt | sort -u)
      if [ -n "$found" ]; then
        printf '%s\n' "longjmp: $object: ${found//$'\n'/$'\n'longjmp: $object: }" >&2
        bad=1
      fi
    fi
  done
  [ "$bad" = 0 ] || exit 1
  if [ "$unoptimised" -gt 0 ]; then
    echo "longjmp: $unoptimised objects NOT judged: compiled without optimisation, use -O1 or more"
  fi
  [ "$judged" = 0 ] || echo "longjmp: OK, $judged objects"
}

main "$@"
