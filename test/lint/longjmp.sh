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
readonly gcc_landing_pad='__gxx_personality_v0'
readonly clang_landing_pad='_Unwind_Resume|__clang_call_terminate|_ZSt9terminatev|__cxa_begin_catch'

# judge: what readelf says of objects, on standard input; readelf names an object only when there are several.
# One pass over all of them, because every build waits for it.
judge() {
  awk -v object="$1" -v everywhere="$everywhere" -v gcc="$gcc_landing_pad" -v clang="$clang_landing_pad" '
    # Everything that is known of an object, at its end.
    function finish(    level, found, landing_pad, name, word, words, n, i) {
      level = ""
      n = split(switches, words, " ")
      for (i = 1; i <= n; i++) { word[words[i]]; if (words[i] ~ /^-O/) level = words[i] }
      if (compiler == "") refuse("neither g++ nor clang made it (or it is LTO bytecode)")
      else if (n == 0) refuse("does not say how it was compiled, add -frecord-gcc-switches")
      else if ("-fno-exceptions" in word) refuse("compiled with -fno-exceptions, which hides what is looked for")
      else if (switches ~ / -flto/ && !("-ffat-lto-objects" in word)) refuse("compiled with -flto but without -ffat-lto-objects")
      else if (level == "" || level == "-O0") unoptimised++
      else {
        judged++
        landing_pad = compiler == "clang" ? clang : gcc
        for (name in undefined) if (name ~ "^(" everywhere "|" landing_pad ")$") refuse(name)
        # It runs when the library is loaded, where nobody catches anything.
        if (constructor) refuse("a static object with a constructor (.init_array)")
      }
    }
    function refuse(why) { print "longjmp: " object ": " why | "c++filt >&2"; bad = 1 }
    function begin(name) { object = name; section = compiler = switches = ""; constructor = 0; split("", undefined) }

    /^File: / { if (begun++) finish(); begin(substr($0, 7)) }
    /^String dump of section / { section = $5 }
    section == "" && / \.(init_array|ctors)/ { constructor = 1 }
    section == "" && $7 == "UND" && NF > 7 { undefined[$8] }
    section ~ /comment/ && /clang/ { compiler = "clang" }
    section ~ /comment/ && /GCC/ && compiler == "" { compiler = "gcc" }
    # The compiler, and for g++ and clang alike the switches it was given.
    section ~ /command.line/ && sub(/^ *\[ *[0-9a-f]+\] +/, "") { switches = switches " " $0 }

    END {
      finish()
      if (bad) exit 1
      if (unoptimised) print "longjmp: " unoptimised " objects NOT judged: compiled without optimisation, use -O1 or more"
      if (judged) print "longjmp: OK, " judged " objects"
    }'
}

[ $# -gt 0 ] || { echo 'longjmp: no objects to judge' >&2; exit 1; }
for object in "$@"; do
  [ -r "$object" ] || { echo "longjmp: $object: no such file" >&2; exit 1; }
done
# What an object does not have, readelf warns of; what it cannot read is an object that no compiler made.
{ readelf -W -S -s -p .comment -p .GCC.command.line "$@" 2>/dev/null || true; } | judge "$1"
