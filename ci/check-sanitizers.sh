#!/bin/bash
# What looks for faults in a program that uses tine: AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer of gcc and clang, memcheck and
# helgrind. C tests are built with them against the installed library, and run; `check-sanitizers.sh long` takes more of them.
# What each can see, and what it can't, is in docs/debugging.md.
set -u
cd "$(dirname "$0")/.." || exit 2
prefix=$PWD/build/prefix
out=$PWD/build/sanitizers
mkdir -p "$out"
export TINE_WORKER_PROGRAM=$prefix/libexec/tine-worker
passed=0 failed=0

# Where tine hands memory from one thread to another ThreadSanitizer does not see it, since tine is not compiled with it.
memory='names sync_locks'
threads='names sync_locks'
[ "${1-}" != long ] || memory='names sync_locks heap queue_watch channel tasks'

try() { # try NAME LIMIT COMMAND...
    local name=$1 limit=$2
    shift 2
    if timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        tail -n 30 "$out/$name.log"
    fi
}
build() { # build COMPILER SANITIZER SOURCE PROGRAM
    $1 -std=c11 -D_GNU_SOURCE -O1 -g -pthread -rdynamic -fno-omit-frame-pointer -fsanitize="$2" -fno-sanitize-recover=all \
        -I"$prefix/include" "$3" -o "$4" -L"$prefix/lib" -ltine -Wl,-rpath,"$prefix/lib"
}

# Workers are killed and end with what they have, which is no leak.
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=suppressions=$PWD/packaging/tine.tsan
for compiler in gcc clang; do
    echo 'int main(void) { return 0; }' >"$out/empty.c"
    for sanitizer in address,undefined thread; do
        build $compiler $sanitizer "$out/empty.c" "$out/empty" 2>/dev/null ||
            { echo "| not tested: -fsanitize=$sanitizer with $compiler, whose runtime is not there"; continue; }
        [ $sanitizer = thread ] && tests=$threads || tests=$memory
        for name in $tests; do
            program=$out/$name-$compiler-$sanitizer
            build $compiler $sanitizer "tests/c/$name.c" "$program" && try "$(basename "$program")" 300 "$program" || failed=$((failed + 1))
        done
        # And they do see what is wrong in a task.
        build $compiler $sanitizer tests/sanitizers/wrong.c "$out/wrong" || exit 2
        if timeout 60 "$out/wrong" $sanitizer >"$out/wrong.log" 2>&1 || ! grep -qE 'insufficient space|heap-buffer-overflow|data race' "$out/wrong.log"; then
            failed=$((failed + 1))
            echo "FAIL  $compiler -fsanitize=$sanitizer does not see what is wrong"
        else
            passed=$((passed + 1))
        fi
    done
done

if valgrind --version >/dev/null 2>&1; then
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -g -pthread -I"$prefix/include" tests/sanitizers/inline.c -o "$out/inline" -L"$prefix/lib" -ltine \
        -Wl,-rpath,"$prefix/lib" || exit 2
    for tool in memcheck helgrind; do
        try $tool 300 valgrind --tool=$tool --suppressions=packaging/tine.supp --error-exitcode=9 "$out/inline"
        # An error is seen, as one.
        if timeout 300 valgrind --tool=$tool --suppressions=packaging/tine.supp --error-exitcode=9 "$out/inline" wrong >"$out/wrong.log" 2>&1; then
            failed=$((failed + 1))
            echo "FAIL  $tool does not see what is wrong"
        else
            passed=$((passed + 1))
        fi
    done
else
    echo "| not tested: memcheck and helgrind: there is no valgrind"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
