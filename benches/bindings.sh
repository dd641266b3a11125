#!/bin/sh
# What the bindings cost: the same work through tine.h, tine.hpp and Go, in turns. TINE_BENCH_ROUNDS: how many of C++'s.
set -eu
cd "$(dirname "$0")/.."
b=build/benches
mkdir -p $b
export PKG_CONFIG_PATH="$PWD/build/prefix/lib/pkgconfig"
# shellcheck disable=SC2046  # a list of words
${CXX:-c++} -std=c++17 -O2 -Wall -Wextra benches/binding.cc -o $b/binding $(pkg-config --cflags --libs tine) -pthread \
    -Wl,-rpath,"$PWD/build/prefix/lib"
$b/binding
benches/go.sh
