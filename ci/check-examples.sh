#!/bin/bash
# Builds the examples against the installed package, and compares what they say with what is known to be right.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/lib.sh

limited() { timeout -k 5 120 "$@"; }

hello() {
    limited build/examples/hello >build/hello.txt
    cat build/hello.txt
    # Two different process numbers: the task ran in a worker.
    local host worker
    read -r host worker < <(sed -n 's/^process \([0-9]*\) was told: hello, world, from process \([0-9]*\)$/\1 \2/p' build/hello.txt)
    [ -n "${worker-}" ] && [ "$worker" != "$host" ]
}

# The program in the README is this very one.
readme() { sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' | diff - examples-c/hello.c; }

word_count() {
    rm -rf build/words
    mkdir -p build/words
    cp examples-c/*.[ch] LICENSE-* build/words
    printf 'no newline at the end' >build/words/short
    : >build/words/empty
    limited build/examples/word-count build/words >build/words.txt
    # wc counts the same; its rows are in another order, and its last one is called total.
    (cd build/words && LC_ALL=C wc ./*) | sed 's|\./||; s/ total$/ in all/' | awk '{ $1 = $1; print }' | sort >build/wc.txt
    awk '{ $1 = $1; print }' build/words.txt | sort | diff - build/wc.txt
}

word_count_failure() { # a file that can't be read is named, and the others are counted
    rm -rf build/words
    mkdir -p build/words
    echo "one two" >build/words/good
    ln -s nowhere build/words/dangling
    ln -s . build/words/directory
    mkfifo build/words/fifo # not a file with words: left alone
    echo "1 2 8 in all" >build/wc.txt
    exits 1 limited build/examples/word-count build/words >build/words.txt 2>build/words.err
    tail -n 1 build/words.txt | awk '{ $1 = $1; print }' | diff - build/wc.txt
    grep -qx 'word-count: dangling: No such file or directory' build/words.err
    grep -qx 'word-count: directory: it is not a regular file' build/words.err
    [ "$(wc -l <build/words.err)" = 2 ]
    exits 2 limited build/examples/word-count build/no-such-directory
}

word_count_many() { # more files than the pool's window holds
    rm -rf build/words
    mkdir -p build/words
    (cd build/words && seq 2500 | split -l 1 -a 3)
    limited build/examples/word-count build/words >build/words.txt
    [ "$(wc -l <build/words.txt)" = 2501 ]
    [ "$(tail -n 1 build/words.txt | awk '{ print $1, $2, $3 }')" = "2500 2500 $(seq 2500 | wc -c)" ]
}

# Whoever is killed, the money is all there; and some are killed in the middle.
bank() {
    limited build/examples/bank -k 300 >build/bank.txt || { cat build/bank.txt; return 1; }
    cat build/bank.txt
    grep -q ' 300 kills, [1-9][0-9]* of them in the middle, .* 16000 of 16000 there$' build/bank.txt
}

bank_wedges() { # with locks that don't notice deaths, and it ends its processes
    exits 1 limited build/examples/bank --pthread -k 1000 >build/bank.txt
    grep -q '^wedged after' build/bank.txt
}

filter() { # grep counts the same
    local hits longest
    hits=$(grep -c the LICENSE-APACHE)
    longest=$(grep the LICENSE-APACHE | awk 'length > most { most = length; line = $0 } END { print line }')
    echo "$hits lines with \"the\"; the longest: $longest" >build/filter.txt
    limited build/examples/filter LICENSE-APACHE the >build/filter.out
    diff <(cut -c -60 build/filter.out) <(cut -c -60 build/filter.txt)
    # A file that isn't there is named, and the program ends all the same.
    exits 1 limited build/examples/filter build/no-such-file the >/dev/null 2>build/filter.err
    grep -q no-such-file build/filter.err
    # Something that cannot be read is no empty text.
    exits 1 limited build/examples/filter build the >/dev/null 2>build/filter.err
    grep -q 'build: Is a directory' build/filter.err
    # One processor, and more lines than the queue between reader and filters holds.
    seq 20000 >build/numbers.txt
    [ "$(limited taskset -c 0 build/examples/filter build/numbers.txt 7 | cut -d ' ' -f 1)" = "$(grep -c 7 build/numbers.txt)" ]
}

# What tine top says of a program's pool: top_of PID EXPRESSION, in Python.
top_of() {
    build/prefix/bin/tine top --json "$1" | python3 -c '
import json, sys
pool = json.load(sys.stdin)[0]
def running(name): return [place["pid"] for place in pool["places"] if (place["running"] or {}).get("function") == name]
print(*eval(sys.argv[1]))' "$2"
}

# A filter that is killed costs nothing but itself. Without the reader there is no more to read, and without filters nobody to look at it;
# the program ends all the same.
filter_deaths() {
    local who program limit victims wanted first
    first=$(head -n 100 LICENSE-APACHE | grep -c the)
    for who in filter reader filters; do
        rm -f build/filter.fifo
        mkfifo build/filter.fifo
        build/examples/filter build/filter.fifo the >build/filter.out 2>build/filter.err &
        program=$! limit=$((SECONDS + 300)) # `limited` would be another process; at the end of this shell the program has read all
        exec 4<>build/filter.fifo
        head -n 100 LICENSE-APACHE >&4
        # All lines have been looked at, and what was found has been taken: nobody has anything in his hands.
        until [ "$(top_of $program 'sorted((q["put"], q["messages"]) for q in pool["queues"])' 2>/dev/null)" = "($first, 0) (100, 0)" ]; do
            [ $SECONDS -lt $limit ]
            sleep 0.05
        done
        case $who in
            filter) victims=$(top_of $program 'running("filter")[:1]') ;;
            reader) victims=$(top_of $program 'running("read_lines")') ;;
            filters) victims=$(top_of $program 'running("filter")') ;;
        esac
        # shellcheck disable=SC2086  # a list of numbers
        kill -KILL $victims
        wanted=$(grep -c the LICENSE-APACHE)
        [ $who = filter ] || wanted=$first
        until [ "$(wc -l <build/filter.err)" -ge "$(wc -w <<<"$victims")" ]; do
            [ $SECONDS -lt $limit ]
            sleep 0.05
        done
        tail -n +101 LICENSE-APACHE >&4
        exec 4>&-
        limited tail --pid=$program -f /dev/null
        exits 1 wait $program
        [ "$(cut -d ' ' -f 1 build/filter.out)" = "$wanted" ]
        grep -q '^filter: worker [0-9]* was ended by SIGKILL' build/filter.err
    done
}

# As many primes as there are, and none is missed at the end.
one_loop() {
    [ "$(limited build/examples/one-loop)" = "14683 primes below 160000; 160000 numbers looked at, says the monitor" ]
}

# Every start method and any number of workers give the same bytes.
same_thumbnails() {
    local run=0 arguments
    rm -rf build/same-*
    for arguments in '-j 1' '-j 3 --start forkserver' '-j 2 --start spawn' '-j 2 --start fork'; do
        # shellcheck disable=SC2086  # a list of words
        exits 1 limited build/examples/thumbnails $arguments examples-c/samples build/same-$run # truncated.jpg
        diff -r build/same-0 build/same-$run
        run=$((run + 1))
    done
    [ -s build/same-0/rocket.jpg ] && [ ! -e build/same-0/truncated.jpg ]
}

# A trace has a task for each picture, one of them with its worker's death; and what says where it cannot be names the file.
traced_thumbnails() {
    rm -rf build/trace.json build/same-traced
    exits 1 limited build/examples/thumbnails -j 2 --crash-on rocket.jpg --trace build/trace.json examples-c/samples build/same-traced
    tests/c/trace_check.py build/trace.json >build/trace.txt
    cat build/trace.txt
    grep -q '^pools 1 .* died 1 .* chunk-items 14 births 3 open 0 ' build/trace.txt
    docs/trace-timeline.py build/trace.json >build/trace.svg
    grep -q 'worker 1' build/trace.svg
    exits 2 limited build/examples/thumbnails --trace /no/such/trace examples-c/samples build/same-traced 2>build/trace.txt
    grep -q 'TINE_TRACE=/no/such/trace: ' build/trace.txt
}

# Three pools make the same files, and say so in the order of the largest first; a stage that crashes costs one frame.
pipeline() {
    local stage
    exits 1 limited build/examples/thumbnails examples-c/samples build/same-0 # again: each test is enough for itself
    rm -rf build/staged
    exits 1 limited build/examples/pipeline examples-c/samples build/staged >build/pipeline.txt
    cat build/pipeline.txt
    diff -r build/same-0 build/staged
    grep -q '^truncated.jpg  *decode: ' build/pipeline.txt
    for stage in decode scale encode; do
        rm -rf build/staged
        exits 1 limited build/examples/pipeline --crash-in $stage --crash-on rocket.jpg examples-c/samples build/staged >build/crash.txt
        grep -q "^rocket.jpg  *$stage: worker [0-9]* was ended by " build/crash.txt
        diff <(cut -d ' ' -f 1 build/pipeline.txt) <(cut -d ' ' -f 1 build/crash.txt)
        [ "$(diff build/pipeline.txt build/crash.txt | grep -c '^>')" = 1 ]
        [ "$(diff -r build/same-0 build/staged)" = "Only in build/same-0: rocket.jpg" ]
    done
}

# The C++ program makes the same files as C's, and says of the same file that it failed.
cpp_thumbnails() {
    local start
    exits 1 limited build/examples/thumbnails examples-c/samples build/same-0 # again: each test is enough for itself
    for start in forkserver spawn fork; do
        rm -rf build/same-cpp
        exits 1 limited build/examples/thumbnails-c++ examples-c/samples build/same-cpp $start >build/cpp.txt
        diff -r build/same-0 build/same-cpp
        grep -q '^truncated.jpg  ' build/cpp.txt
        [ "$(wc -l <build/cpp.txt)" = 1 ]
    done
    exits 2 limited build/examples/thumbnails-c++ build/no-such-directory build/same-cpp 2>build/usage.txt
    grep -q no-such-directory build/usage.txt
}

usage_errors() {
    local arguments
    for arguments in '' 'one' '-j 0 a b' '-q 101 a b' '-w x a b' '--start thread a b' '--nonsense a b' \
        'build/no-such-directory build/out' 'src build/out' 'examples-c/samples build/no-such-directory/out'; do
        # shellcheck disable=SC2086
        exits 2 limited build/examples/thumbnails $arguments 2>build/usage.txt
        [ -s build/usage.txt ] || { echo "nothing is said with: $arguments"; return 1; }
    done
    for arguments in 'bank -k x' 'bank -j 0' 'bank -k -1' 'bank -j' 'shared-counter x' 'shared-counter 0' 'shared-counter 1 2' 'filter x' 'word-count'; do
        # shellcheck disable=SC2086
        exits 2 limited build/examples/$arguments 2>build/usage.txt
        grep -q '^usage: ' build/usage.txt
    done
    exits 2 limited build/examples/pipeline examples-c/samples build/no-such-directory/out 2>build/usage.txt
    grep -q '^pipeline: build/no-such-directory/out: ' build/usage.txt
}

# A path that is longer than any file's fails that file in one program, and the other program with its name.
long_paths() {
    local long=
    rm -rf build/long
    mkdir -p build/long
    cp examples-c/samples/cell.png build/long
    while [ ${#long} -lt 4078 ]; do long=$long/.; done # a directory that can be opened, and no file in it
    exits 1 limited build/examples/pipeline "build/long$long" build/staged >build/pipeline.txt
    grep -q '^cell.png  *File name too long' build/pipeline.txt
    exits 2 limited build/examples/thumbnails "build/long$long" build/staged 2>build/usage.txt
    grep -q '^thumbnails: cell.png: File name too long' build/usage.txt
}

linked_list() { [ "$(limited build/examples/linked-list)" = "a worker found Supervisor" ]; }

# Two programs that each count so often; none of it is lost.
shared_counter() { [ "$(limited build/examples/shared-counter 20000)" = "two programs counted to 40000" ]; }

try build make --silent examples
try hello hello
try readme readme
try word-count word_count
try linked-list linked_list
try shared-counter shared_counter
try word-count-failure word_count_failure
try word-count-many word_count_many
try bank bank
try bank-wedges bank_wedges
try filter filter
try filter-deaths filter_deaths
try one-loop one_loop
try thumbnails-same same_thumbnails
try thumbnails-trace traced_thumbnails
try pipeline pipeline
try thumbnails-c++ cpp_thumbnails
try usage usage_errors
try long-paths long_paths
try demo ci/demo.sh
counted
