#!/bin/bash
# aarch64: the library is cross-built and installed, all C tests are built against it, and some run: under qemu's user mode, and on a
# machine that qemu emulates as a whole (aarch64-machine.sh).
#
# It needs a cross compiler, and a Rust compiler that has the standard library for it: rustup's target, or from Debian rustc-web, cargo-web and
# libstd-rust-web-dev:arm64. What is not there is named, and counts as nothing.
set -u
cd "$(dirname "$0")/.." || exit 2
target=aarch64-unknown-linux-gnu
out=$PWD/build/aarch64
compiler=aarch64-linux-gnu-gcc
mkdir -p "$out"

command -v $compiler >/dev/null || { echo "| not tested: aarch64: there is no $compiler"; exit 0; }
found=
for rustc in rustc /usr/bin/rustc; do
    [ -z "$found" ] && ls "$($rustc --print target-libdir --target $target 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1 && found=$rustc
done
[ -n "$found" ] || { echo "| not tested: aarch64: no rustc has the standard library for $target"; exit 0; }
cargo=cargo
[ "$found" = rustc ] || cargo=/usr/bin/cargo

env RUSTC="$(command -v "$found")" CARGO_TARGET_DIR="$out/target" CARGO_BUILD_TARGET=$target CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$compiler \
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    make --silent install CARGO=$cargo CC=$compiler PREFIX="$out/prefix" >"$out/install.log" 2>&1 </dev/null &&
    file -L "$out/prefix/lib/libtine.so" | grep -q 'ARM aarch64' || { tail -n 30 "$out/install.log"; echo "0 passed, 1 failed"; exit 1; }

# Under qemu's user mode (7.2) there are no pools and no single processes: it makes no process without an exit signal, and executes no program
# for another machine by itself. It has no robust lists, and takes MADV_WIPEONFORK without doing it, so that no process knows that it was
# forked: there are no locks between processes. It marks each page of a mapping, which takes minutes for a heap's range.
runs=' version '
able=$(command -v qemu-aarch64) || echo "| not tested: C tests on aarch64: there is no qemu-aarch64"
run=() build=()
[ $# -gt 0 ] || set -- tests/c/*.c
for source; do
    # Other libraries would have to be there for the other machine.
    grep -q 'packages: ' "$source" && continue
    case $runs in
        *" $(basename "$source" .c) "*) [ -z "$able" ] || { run+=("$source"); continue; } ;;
    esac
    build+=("$source")
done
export CC=$compiler OUT=build/aarch64 VARIANTS=shared-c PKG_CONFIG_PATH=$out/prefix/lib/pkgconfig
passed=0 failed=0
some() { # some COMMAND... FILE...: the tests under a command
    local ok bad
    UNDER=$1 ci/run-c-tests.sh "${@:2}" >"$out/log" 2>&1
    read -r ok bad < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$out/log")
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-1}))
    sed '/ passed, /d' "$out/log"
}
[ ${#build[@]} = 0 ] || some nothing "${build[@]}"
[ ${#run[@]} = 0 ] || some 'qemu-aarch64 -L /usr/aarch64-linux-gnu' "${run[@]}"
# What the emulated machine runs within a few minutes. Elsewhere: a division by zero is no fault on aarch64 (deaths), and its kernel is 6.1,
# where what watches a queue looks round (queue).
machine=$(ci/aarch64-machine.sh "$out" version names heap channel sync_locks structs)
echo "$machine" | sed '/ passed, /d'
read -r ok bad < <(echo "$machine" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p') && passed=$((passed + ok)) failed=$((failed + bad))
echo "$passed passed, $failed failed"
[ $failed = 0 ]
