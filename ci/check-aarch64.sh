#!/bin/bash
# aarch64: the library is cross-built and installed, all C tests are built against it, and what qemu's user mode can do is run.
#
# It needs a cross compiler, and a Rust compiler that has the standard library for it: rustup's target, or from Debian rustc-web, cargo-web and
# libstd-rust-web-dev:arm64. What is not there is named, and counts as nothing.
set -u
cd "$(dirname "$0")/.." || exit 2
target=aarch64-unknown-linux-gnu
out=$PWD/build/aarch64
compiler=aarch64-linux-gnu-gcc
tests='version'
mkdir -p "$out"

command -v $compiler >/dev/null || { echo "| not tested: aarch64: there is no $compiler"; exit 0; }
found=
for rustc in rustc /usr/bin/rustc; do
    [ -z "$found" ] && ls "$($rustc --print target-libdir --target $target 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1 && found=$rustc
done
[ -n "$found" ] || { echo "| not tested: aarch64: no rustc has the standard library for $target"; exit 0; }
cargo=cargo
[ "$found" = rustc ] || cargo=/usr/bin/cargo

passed=0 failed=0
try() { # try NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$out/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        tail -n 30 "$out/$name.log"
    fi
}
library() {
    env RUSTC="$(command -v "$found")" CARGO_TARGET_DIR="$out/target" CARGO_BUILD_TARGET=$target CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$compiler \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        make --silent install CARGO=$cargo CC=$compiler PREFIX="$out/prefix" && file -L "$out/prefix/lib/libtine.so" | grep -q 'ARM aarch64'
}
built() { # built NAME: a C test against it
    $compiler -std=c11 -D_GNU_SOURCE -O1 -g -pthread -Wall -Wextra -Wpedantic -Werror -I"$out/prefix/include" "tests/c/$1.c" -o "$out/$1" \
        -L"$out/prefix/lib" -ltine -Wl,-rpath,"$out/prefix/lib"
}

try library library
for source in tests/c/*.c; do
    name=$(basename "$source" .c)
    # Other libraries would have to be there for the other machine.
    grep -q 'packages: ' "$source" && continue
    try "build-$name" built "$name"
done
if command -v qemu-aarch64 >/dev/null; then
    for name in $tests; do try "run-$name" timeout -k 5 120 qemu-aarch64 -L /usr/aarch64-linux-gnu "$out/$name"; done
    # It gives no memory at the addresses where aarch64's heaps are looked for, and the search takes longer than a test may.
    echo "| not tested: pools, heaps and locks on aarch64, which qemu's user mode cannot run"
else
    echo "| not tested: C tests on aarch64: there is no qemu-aarch64"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
