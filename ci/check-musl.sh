#!/bin/bash
# musl: the static library is built and installed, and the C tests are linked statically with musl and it, and run.
# check-musl.sh [FILE...]: these tests alone. It needs musl-gcc (Debian's musl-tools) and a Rust compiler that has the standard library for
# musl (rustup target add x86_64-unknown-linux-musl). What is not there is named, and counts as nothing.
set -u
cd "$(dirname "$0")/.." || exit 2
target=$(uname -m)-unknown-linux-musl
out=$PWD/build/musl
mkdir -p "$out/kernel"
command -v musl-gcc >/dev/null || { echo "| not tested: musl: there is no musl-gcc"; exit 0; }
ls "$(rustc --print target-libdir --target "$target" 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1 ||
    { echo "| not tested: musl: rustc has no standard library for $target"; exit 0; }

CARGO_TARGET_DIR=$out/target CARGO_BUILD_TARGET=$target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    make --silent install CC=musl-gcc PREFIX="$out/prefix" >"$out/install.log" 2>&1 </dev/null ||
    { tail -n 30 "$out/install.log"; echo "0 passed, 1 failed"; exit 1; }
# The kernel's headers, which tests use and musl does not bring along.
ln -sfn /usr/include/linux "$out/kernel/linux"
ln -sfn /usr/include/asm-generic "$out/kernel/asm-generic"
ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" "$out/kernel/asm"

tests=
for source in tests/c/*.c; do
    case $(basename "$source" .c) in
        # They load libraries at run time, or start the dynamic loader: a static program cannot.
        plugins | worker_program | bad_input | programs | libuv) ;;
        # They name modules as the dynamic loader does, or put a malloc of their own behind glibc's.
        check_mode | memory_short | memory_short_heap) ;;
        # musl's robust list has its lock's word elsewhere, so the kernel marks no lock of tine's: waits look, every 50 ms. That a program
        # has executed another is not seen so.
        sync_edges) ;;
        # It sets a scheduling policy, which musl refuses whatever the kernel says.
        sync_mixed) ;;
        # They name errors by strerrorname_np.
        sweep_*) ;;
        *) tests="$tests $source" ;;
    esac
done
# shellcheck disable=SC2086  # a list of words
[ $# -gt 0 ] || set -- $tests
# Debian's gcc does not ask for the unwinder's table in a static program, without which no panic is caught and no backtrace is had; an ioctl's
# number is an int to musl.
CC="musl-gcc -static -Wl,--eh-frame-hdr -Wno-overflow -idirafter $out/kernel" OUT=build/musl LIBRARIES=none VARIANTS=static-c PKG_CONFIG_PATH=$out/prefix/lib/pkgconfig \
    ci/run-c-tests.sh "$@"
