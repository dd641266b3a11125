#!/bin/sh
# Compares the ABI that the header declares with the committed dump, ci/libtine.abi: the calls with their parameters, the structs with
# their fields. --write takes it over (make abi). The dump is of a library of empty functions that is made from tine-ffi.h, so that it
# says nothing of the machine or the compiler; that the real library has these calls, and the structs these fields, others check.
set -eu
dump=ci/libtine.abi
out=build/abi
mkdir -p $out
if [ "$(uname -m)" != x86_64 ]; then
    echo "| not tested: the ABI against $dump, which is x86_64's"
    exit
fi
if ! command -v abidw >/dev/null || ! command -v abidiff >/dev/null; then
    echo "| not tested: the ABI against $dump: there is no abidiff (libabigail's; Debian: abigail-tools)"
    [ "${1-}" != --write ]
    exit
fi
awk '/^typedef/ { print; inside = /\{/; next }
     /^enum \{/ { inside = 1 }
     inside { print; if (/^\}/) inside = 0; next }
     /^[a-z_]/ { text = ""; open = 1 }
     open { text = text $0 " "; if (/;$/) { sub(/; $/, " { __builtin_trap(); }", text); print text; open = 0 } next }
     { print }' build/prefix/include/tine-ffi.h >$out/empty.c
${CC:-cc} -std=c11 -g -O0 -fPIC -shared -w $out/empty.c -o $out/empty.so -Wl,-soname,"$(readelf -d build/prefix/lib/libtine.so | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')"
nm -D --defined-only $out/empty.so | awk '{ print $NF }' | LC_ALL=C sort | diff ci/symbols.txt -
abidw --no-corpus-path --no-comp-dir-path --no-show-locs $out/empty.so >$out/libtine.abi
if [ "${1-}" = --write ]; then
    cp $out/libtine.abi $dump
elif ! abidiff --no-show-locs $dump $out/libtine.abi; then
    echo "the ABI differs from $dump: make abi, if that is meant, and say so in CHANGELOG.md" >&2
    exit 1
fi
