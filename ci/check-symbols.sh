#!/bin/sh
# Compares what the installed libtine.so exports with the committed list; --write takes it over (make symbols).
set -eu
list=ci/symbols.txt
mkdir -p build
nm -D --defined-only build/prefix/lib/libtine.so | awk '{ print $NF }' | LC_ALL=C sort >build/symbols.txt

if grep -v '^tine_' build/symbols.txt; then
    echo "the library exports the names above, which are not its own to export" >&2
    exit 1
fi
if [ "${1-}" = --write ]; then
    cp build/symbols.txt "$list"
elif ! diff -u "$list" build/symbols.txt; then
    echo "the exported symbols differ from $list: make symbols, if that is meant" >&2
    exit 1
fi
# Undeclared exports are calls that nobody documents; undefined declarations are calls that nobody can link.
grep -oE '\btine_[a-z0-9_]+\(' build/prefix/include/tine.h | tr -d '(' | LC_ALL=C sort -u >build/declared.txt
if LC_ALL=C comm -23 build/symbols.txt build/declared.txt | grep .; then
    echo "exported, but not in tine.h" >&2
    exit 1
fi
