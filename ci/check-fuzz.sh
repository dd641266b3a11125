#!/bin/bash
# check-fuzz.sh SECONDS: the entries that take any bytes, on inputs made at random from the corpus, all at once; a minute by default.
# What takes which bytes is in the files fuzz.rs below src. `cargo test` replays the corpus, tests/corpus, alone.
set -u
cd "$(dirname "$0")/.." || exit 2
TINE_FUZZ=${1:-60} timeout -k 5 900 cargo test --quiet --lib fuzz_ -- --nocapture --test-threads=8
status=$?
if [ $status != 0 ]; then
    echo "exit status $status; the inputs under way, which are in target/fuzz:"
    tail -n 200 -c +1 target/fuzz/* 2>/dev/null | od -A d -t x1z | head -n 100
fi
exit $status
