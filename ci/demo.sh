#!/bin/bash
# `make demo`: the main job, on real photographs, as a user of the installed library would run it. Fails unless exactly
# those files fail that are meant to.
set -u
cd "$(dirname "$0")/.." || exit 2
samples=examples-c/samples
out=build/thumbnails
report=build/demo.txt
thumbnails=build/examples/thumbnails
# shellcheck disable=SC2012  # plain names
files=$(ls $samples/*.jpg $samples/*.png | wc -l)

die() { echo "make demo: $*" >&2; exit 1; }

act() { # act FAILURES ARGUMENT...: runs thumbnails, which is to fail with exactly so many files
    local failures=$1 status
    shift
    rm -rf $out
    echo "\$ $thumbnails $* $samples $out"
    # What people see on a terminal is drawn there; the report is a copy to check.
    if [ -t 1 ] && script -V >/dev/null 2>&1; then
        script -qec "$thumbnails $* $samples $out" $report </dev/null
        status=$?
    else
        $thumbnails "$@" $samples $out | tee $report
        status=${PIPESTATUS[0]}
    fi
    [ "$status" = 1 ] || die "thumbnails exited with $status, not with 1 for the files that are meant to fail"
    grep -q "^$failures of $files files failed" $report || die "not exactly $failures of $files files failed"
    # shellcheck disable=SC2012
    [ "$(ls $out | wc -l)" = $((files - failures)) ] || die "there are not $((files - failures)) files in $out"
    echo
}

echo "1. One process, then a pool with a worker for each CPU. One of the files is cut off in the middle."
echo
act 1 --serial
grep -q '^ *truncated.jpg ' $report || die "truncated.jpg is not named"

echo "2. The worker that gets rocket.jpg crashes. That costs rocket.jpg, and nothing else."
echo
act 2 --crash-on rocket.jpg
grep -q '^ *rocket.jpg .*signal 11' $report || die "the crash is not told"

echo "The thumbnails are in $out. What failed was meant to; everything else is done."
