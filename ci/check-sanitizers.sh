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
whole=''
if [ "${1-}" = long ]; then
    memory='names sync_locks heap queue_watch channel tasks'
    # With gcc all C tests but these.
    cat >"$out/apart.txt" <<'END'
callbacks            gives its dying tasks ten seconds, which is too short under the sanitizer where the machine is busy
channel_death        takes longer than 100 s under the sanitizer
check_mode           expects malloc's heap and puts where the C library has them, not where the sanitizer has its own
deaths               divides by zero and the like to die of the signal, which the sanitizer reports first
ending_storm         takes longer than 150 s under the sanitizer
environment          wants mlockall to fail, which the sanitizer makes a call that does nothing
heap-scribble        is what check-asan.sh runs, with the library itself under AddressSanitizer
memory_short         has a malloc of its own in place of the C library's, as the sanitizer has
memory_short_heap    has a malloc of its own in place of the C library's, as the sanitizer has
process              dies of SIGSEGV on purpose, which the sanitizer reports, and the process exits
process_hostile      waits ten seconds for a count, which is too short under the sanitizer where the machine is busy
receive              leaves a process no address space, which the sanitizer does not survive
segment              dies of SIGSEGV on purpose, which the sanitizer reports, and the process exits
standby              leaves no address space to a worker that is to start, which the sanitizer does not survive
sweep_heap           fails mmap, too, and then the sanitizer ends the process
sweep_pool           fails mmap, too, and then the sanitizer ends the process
sweep_queue          fails mmap, too, and then the sanitizer ends the process
sweep_sync           fails mmap, too, and then the sanitizer ends the process
sweep_tool           fails mmap, too, and then the sanitizer ends the process
sync_gone            takes longer than 100 s under the sanitizer
END
    for name in $(awk '{ print $1 }' "$out/apart.txt"); do
        [ -e "tests/c/$name.c" ] || { echo "there is no tests/c/$name.c"; exit 2; }
    done
    whole=$(cd tests/c && printf '%s\n' *.c | sed 's/\.c$//' | grep -vxFf <(awk '{ print $1 }' "$out/apart.txt"))
    # The libraries that some of them load.
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig OUT=$out/c VARIANTS=shared-c UNDER=nothing ci/run-c-tests.sh tests/c/version.c >/dev/null || exit 2
    export TINE_TEST_LIBRARY=$out/c/functions.so TINE_TEST_PLUGINS=$out/c
fi

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
    local packages
    packages=$(sed -n '1,20s|.*packages: \([^*]*\).*|\1|p' "$3" | head -n 1)
    # shellcheck disable=SC2046,SC2086  # lists of words
    $1 -std=c11 -D_GNU_SOURCE -O1 -g -pthread -rdynamic -fno-omit-frame-pointer -fsanitize="$2" -fno-sanitize-recover=all \
        -I"$prefix/include" ${packages:+$(pkg-config --cflags $packages)} "$3" -o "$4" -L"$prefix/lib" -ltine -Wl,-rpath,"$prefix/lib" \
        ${packages:+$(pkg-config --libs $packages)}
}

# Workers are killed and end with what they have, which is no leak.
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=suppressions=$PWD/packaging/tine.tsan
for compiler in gcc clang; do
    echo 'int main(void) { return 0; }' >"$out/empty.c"
    for sanitizer in address,undefined thread; do
        build $compiler $sanitizer "$out/empty.c" "$out/empty" 2>/dev/null ||
            { echo "| not tested: -fsanitize=$sanitizer with $compiler, whose runtime is not there"; continue; }
        [ $sanitizer = thread ] && tests=$threads || tests=$memory
        [ $compiler-$sanitizer != gcc-address,undefined ] || tests=${whole:-$tests}
        for name in $tests; do
            program=$out/$name-$compiler-$sanitizer
            build $compiler $sanitizer "tests/c/$name.c" "$program" && try "$(basename "$program")" 600 "$program" || failed=$((failed + 1))
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
# gdb in a worker, as docs/debugging.md has it: attach to the process that .on_begin tells, break in a task, look, detach; the task goes on.
in_gdb() {
    local host worker='' tries
    rm -f "$out/attached.pid"
    touch "$out/attached.pid"
    "$out/attached" >"$out/attached.pid" &
    host=$!
    for tries in $(seq 300); do
        read -r worker <"$out/attached.pid" && break
        sleep 0.1
    done
    [ -n "$worker" ] || echo "no task has begun in $tries tries"
    timeout -k 5 100 gdb -batch -nx -iex 'set debuginfod enabled off' -p "$worker" -ex 'break stop_here' -ex 'set var attached = 1' \
        -ex continue -ex backtrace -ex 'print number + 1000' -ex detach 2>&1 | tee "$out/gdb.log"
    wait $host || return
    grep -q 'Breakpoint 1, stop_here (number=41)' "$out/gdb.log" && grep -q '^#1 .* waits (task=' "$out/gdb.log" && grep -q '= 1041$' "$out/gdb.log"
}
if ! gdb --version >/dev/null 2>&1; then
    echo "| not tested: gdb in a worker: there is no gdb"
elif [ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 0 ] && [ "$(id -u)" != 0 ]; then
    echo "| not tested: gdb in a worker: /proc/sys/kernel/yama/ptrace_scope forbids to attach, which takes root"
else
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -O0 -g -I"$prefix/include" tests/sanitizers/attached.c -o "$out/attached" -L"$prefix/lib" -ltine \
        -Wl,-rpath,"$prefix/lib" || exit 2
    export out
    export -f in_gdb
    try gdb 300 bash -c in_gdb
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
