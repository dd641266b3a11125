#!/bin/bash
# `make test`: every check, two beside each other, each with its full output in build/log. A check that fails doesn't
# stop the others; the last line counts the tests of all of them. `make test-long` is `test.sh long`: what takes too long for that.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=$PWD/build/prefix/lib/pkgconfig
mkdir -p build/log
passed=0 failed=0

check() { # check NAME COMMAND...
    local name=$1 log=build/log/$1 started=$SECONDS ok bad
    shift
    printf '%-12s %s\n' "$name" "$*"
    if "$@" >"$log" 2>&1 </dev/null; then status=0; else status=$?; fi
    # cargo counts once for each test program, the scripts here once at the end; what doesn't count is one test, if it could be run.
    read -r ok bad < <(sed -n 's/^\(test result: [a-zA-Z]*\. \)*\([0-9]*\) passed[,;] \([0-9]*\) failed.*/\2 \3/p' "$log" |
        awk '{ ok += $1; bad += $2 } END { print ok + 0, bad + 0 }')
    [ $status = 0 ] && [ $((ok + bad)) = 0 ] && ! grep -q '| not tested: ' "$log" && ok=1
    [ $status != 0 ] && [ "$bad" = 0 ] && bad=1
    passed=$((passed + ok)) failed=$((failed + bad))
    if [ $status = 0 ]; then
        printf '%-12s ok: %d in %d s\n' '' "$ok" $((SECONDS - started))
        sed -n 's/.*| not tested: /not tested: /p' "$log" | sort -u | sed 's/^/             /'
    else
        printf '%-12s FAILED (status %d) in %d s; the end of %s:\n' '' $status $((SECONDS - started)) "$log"
        # What failed may stand far above the end.
        grep -nE -B 12 -A 4 '^ *(FAIL|FAILED|not ok|--- FAIL|panic:|DATA RACE)|^test .* FAILED|panicked at' "$log" | head -n 160 | sed 's/^/    : /'
        tail -n 60 "$log" | sed 's/^/    | /'
    fi
}

# Runs two lists of checks side by side, each a function here: what one of them waits for, the other need not. They share no folder
# of build/. The second one's lines come when the first is through.
beside() { # beside FUNCTION FUNCTION
    local other=build/log/beside ok bad pid
    (
        passed=0 failed=0
        "$2"
        echo "$passed $failed" >$other.counts
    ) >$other.lines 2>&1 &
    pid=$! # a process substitution in what follows sets it, too
    "$1"
    wait $pid
    cat $other.lines
    # One that came to no end has failed.
    read -r ok bad 2>/dev/null <$other.counts || ok=0 bad=1
    rm -f $other.lines $other.counts
    passed=$((passed + ok)) failed=$((failed + bad))
}

# What compiles fills one processor, and what waits for processes the other.
short() {
    check format cargo fmt --check -- --color never
    beside in_rust installed
    beside in_c in_cpp
    beside in_python in_go
}
in_rust() {
    check clippy cargo clippy --quiet --workspace --all-targets -- -D warnings
    check rustdoc env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --quiet
    check rust timeout -k 10 1800 cargo test --quiet
    check inspect timeout -k 10 600 cargo test --quiet --package tine-cli
}
installed() {
    check install make --silent staged
    check layout ci/check-install.sh
    check build ci/check-build.sh
    check header ci/check-header.sh
    check symbols ci/check-symbols.sh
    check abi ci/check-abi.sh
    check examples ci/check-examples.sh
    check man ci/check-man.sh
    check ffi ci/check-ffi.sh
    check benches ci/check-benches.sh
    check docs ci/check-docs.sh
    check asan ci/check-asan.sh
    check sanitizers ci/check-sanitizers.sh
}
in_c() {
    check c ci/run-c-tests.sh
    check kernels ci/check-kernels.sh
}
in_cpp() {
    check cpp ci/check-cpp.sh
    check mpi ci/check-mpi.sh
}
in_python() { check python ci/check-python.sh; }
in_go() {
    check go ci/check-go.sh
    check conformance ci/check-conformance.sh
}
long() {
    check install make --silent staged
    check build ci/check-build.sh long
    check book ci/check-book.sh
    check deb ci/check-deb.sh
    check sanitizers ci/check-sanitizers.sh long
    check c env VARIANTS='shared-c++ static-c' ci/run-c-tests.sh
    check cpp ci/check-cpp.sh long
    check kernels ci/check-kernels.sh long
    check aarch64 ci/check-aarch64.sh
    check musl ci/check-musl.sh
    check miri ci/check-miri.sh
    check fuzz ci/check-fuzz.sh
    check instructions benches/compare.sh
    check asked-for benches/instructions.sh
    check core env CRITERION_HOME=build/benches/criterion cargo bench --quiet --manifest-path benches/peers/Cargo.toml --target-dir build/benches/peers --bench core -- --test
    check python ci/check-python.sh long
}

case ${1-short} in
    short | long) "${1-short}" ;;
    *) echo "usage: test.sh [long]" >&2; exit 2 ;;
esac
echo "$passed passed, $failed failed"
[ $failed = 0 ]
