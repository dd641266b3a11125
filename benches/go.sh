#!/bin/sh
# Builds benches/go.go, and runs it.
set -eu
cd "$(dirname "$0")/.."
export PKG_CONFIG_PATH="${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}"
TINE_WORKER_PROGRAM=$(pkg-config --variable=worker tine)
TINE_GO_LIBRARY=$PWD/build/go/functions.so
export TINE_WORKER_PROGRAM TINE_GO_LIBRARY
mkdir -p build/go
# shellcheck disable=SC2046  # a list of words
${CC:-cc} -std=c11 -O2 -shared -fPIC $(pkg-config --cflags tine) bindings/go/testdata/functions.c -o "$TINE_GO_LIBRARY"
ci/go-module.sh bench benches/go.go
ci/go.sh -C build/go/bench build -o program .
build/go/bench/program
