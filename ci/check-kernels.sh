#!/bin/bash
# C tests as under older kernels: tests/c/lib/older-kernel.c refuses what those have not. Each must pass there as here, by what tine has in
# place of the missing call; and a kernel that is too old is named by tine_init. A sample of the tests; `check-kernels.sh long`: all.
set -u
cd "$(dirname "$0")/.." || exit 2
export OUT=build/kernels PKG_CONFIG_PATH=$PWD/build/prefix/lib/pkgconfig VARIANTS=shared-c
# 6.8: no pidfds of threads, and no inode for each pidfd. 6.2: memory cannot be had sealed against execution. 6.1: the kernel does not pass
# on a dead waiter's wake-up. 5.10: no futex_waitv, no epoll_pwait2. 5.4: no close_range, no openat2, no pidfd_getfd.
kernels='6.8 6.2 6.1 5.10 5.4'
too_old='5.3 4.19'
if [ "${1-}" = long ]; then
    tests=
    for source in tests/c/*.c; do
        case $source in
            # They watch the calls of their family by what is younger than these kernels, and say so.
            */sweep_*) ;;
            # That a program has executed another is not seen where the kernel marks no locks of tine's, before 6.2. A process without /proc
            # can't tell its PID namespace before 6.11. What watches a queue sleeps on several words by futex_waitv alone, and looks round
            # before 5.16.
            */sync_edges.c | */sync_unseen.c | */sync_namesake.c | */queue.c) ;;
            *) tests="$tests $source" ;;
        esac
    done
else
    kernels='5.10 5.4'
    tests='tests/c/process.c tests/c/queue_watch.c tests/c/channel_task.c tests/c/sync_locks.c'
fi
mkdir -p $OUT
passed=0 failed=0
count() {
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

warnings='-Wall -Wextra -Wpedantic -Werror'
# shellcheck disable=SC2086  # a list of words
${CC:-cc} -std=c11 -O1 -g $warnings tests/c/lib/older-kernel.c -o $OUT/older-kernel || exit 2
# shellcheck disable=SC2046,SC2086  # lists of words
${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -g $warnings $(pkg-config --cflags tine) tests/c/lib/too-old.c -o $OUT/too-old $(pkg-config --libs tine) \
    -Wl,-rpath,"$(pkg-config --variable=libdir tine)" || exit 2

for kernel in $too_old; do
    said=$($OUT/older-kernel "$kernel" $OUT/too-old 2>&1)
    count $?
    echo "$kernel: $said"
done
for kernel in $kernels; do
    # shellcheck disable=SC2086  # a list of words
    UNDER="$OUT/older-kernel $kernel" ci/run-c-tests.sh $tests >$OUT/log 2>&1
    read -r ok bad < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' $OUT/log)
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-1}))
    sed "/ passed, /d; s/^/$kernel: /" $OUT/log
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
