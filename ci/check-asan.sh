#!/bin/bash
# With the library under AddressSanitizer: tests/c/heap-scribble.c, nothing that a hostile process writes makes the host read
# or write out of bounds; and tests/c/structs.c, no struct is read or written beyond its size. check-asan.sh SECONDS: how long the
# first one runs; 5 by default.
#
# The sanitizer is not a stable feature of the compiler, but its runtime comes with it; where it does not, that is said.
set -u
cd "$(dirname "$0")/.." || exit 2
target=$(rustc -vV | sed -n 's/^host: //p')
runtime=$(find "$(rustc --print sysroot)/lib/rustlib/$target/lib" -name 'librustc-*_rt.asan.a' 2>/dev/null | head -n 1)
if [ -z "$runtime" ]; then
    echo "| not tested: the heap under AddressSanitizer, which needs the compiler's runtime for it"
    exit 0
fi
dir=build/asan
# Optimised as a whole it takes three times as long to compile, and is no better checked.
CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" cargo rustc --release --quiet --lib --crate-type staticlib \
    --target "$target" --target-dir $dir || exit 1
for test in heap-scribble structs; do
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -g -pthread -rdynamic -Iinclude tests/c/$test.c -o $dir/$test \
        "$dir/$target/release/libtine.a" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive \
        -lgcc_s -lutil -lrt -lpthread -lm -ldl || exit 1
done
# The loads of the library are checked at all.
[ "$(objdump -d --no-show-raw-insn $dir/heap-scribble | grep -c 'call.*__asan_report_load')" -gt 1000 ] ||
    { echo "the library is not instrumented"; exit 1; }
# Workers are killed, and end with what they have; the stack that a family's first step runs on is tine's own.
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:log_path=$dir/report
rm -f $dir/report.*
timeout -k 5 120 $dir/structs || { echo "exit status $?"; cat $dir/report.* 2>/dev/null; exit 1; }
TINE_SCRIBBLE=${1:-5} timeout -k 5 200 $dir/heap-scribble || { echo "exit status $?"; cat $dir/report.* 2>/dev/null; exit 1; }
if grep -l 'ERROR: AddressSanitizer' $dir/report.* 2>/dev/null; then
    cat $dir/report.*
    exit 1
fi
