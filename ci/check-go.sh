#!/bin/bash
# The Go binding: formatted, vetted, tested with the race detector and without; the examples and the programs of docs/go.md;
# and that it leaves no process behind.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}
TINE_WORKER_PROGRAM=$(pkg-config --variable=worker tine) || exit 2
TINE_GO_LIBRARY=$PWD/build/go/functions.so
export TINE_WORKER_PROGRAM TINE_GO_LIBRARY
out=build/go
mkdir -p $out
. ci/lib.sh

limited() { timeout -k 5 180 "$@"; }

formatted() { [ -z "$(ci/go.sh gofmt -l bindings/go tests/conformance benches | tee /dev/stderr)" ]; }

go_tests() { # go_tests NAME [FLAG]...: one program for each run, whose processes can be told by its path
    local program=$PWD/$out/test-$1
    shift
    ci/go.sh -C bindings/go test "$@" -c -o "$program" .
    cd bindings/go
    limited "$program" -test.timeout 170s
}

# The tests of this very tree: no process that one of them has started is left.
nobody_left() {
    local left tries
    for tries in $(seq 100); do
        left=$(find /proc/[0-9]*/exe \( -lname "$PWD/$out/test-plain*" -o -lname "$PWD/$out/test-race*" \) 2>/dev/null) || true # some go while they are looked at
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    echo "after $tries looks, still there: $left"
    return 1
}

program() { # program NAME FILE...: builds a program that uses the binding
    local name=$1
    shift
    ci/go-module.sh "$name" "$@" && ci/go.sh -C "$out/$name" build -o program . && ci/go.sh -C "$out/$name" vet .
}

thumbnails() { # the same files as the C program's, and the same one that fails
    rm -rf $out/c $out/thumbs $out/crash $out/thumbnails
    make --silent examples
    ci/go.sh -C bindings/go build -o "$PWD/$out/thumbnails" ./examples/thumbnails
    exits 1 limited build/examples/thumbnails examples-c/samples $out/c >/dev/null # truncated.jpg
    exits 1 limited $out/thumbnails examples-c/samples $out/thumbs >$out/thumbs.txt 2>&1
    diff -r $out/c $out/thumbs
    grep '^truncated.jpg: ' $out/thumbs.txt
    exits 1 limited $out/thumbnails -crash-on rocket.jpg examples-c/samples $out/crash >$out/crash.txt 2>&1
    grep '2 of 15 items failed' $out/crash.txt
    grep '^rocket.jpg: .*worker [0-9]* died: signal ' $out/crash.txt
    [ "$(wc -l <bindings/go/examples/thumbnails/main.go)" -lt 80 ]
}

# The ```go blocks of the page that are programs. A first line "// prints: ..." says what one must print.
pages() {
    rm -rf $out/page-*
    awk -v stem="$out/page-" '
        /^```go$/ { inside = 1; text = ""; start = NR; next }
        /^```/ && inside { inside = 0; if (text ~ /func main\(/) printf "%s", text >(stem start ".go"); next }
        inside { text = text $0 "\n" }' docs/go.md
    local source name wanted bad=0
    for source in "$out"/page-*.go; do
        name=$(basename "$source" .go)
        wanted=$(sed -n 's|^// prints: ||p' "$source" | head -n 1)
        if ! program "$name" "$source" || ! limited "$out/$name/program" </dev/null >"$out/$name.txt" ||
            ! [ "$(cat "$out/$name.txt")" = "$wanted" ]; then
            echo "docs/go.md, line ${name#page-}, is to print \"$wanted\"; it prints:"
            cat "$out/$name.txt"
            bad=1
        fi
    done
    return $bad
}

# shellcheck disable=SC2046  # a list of words
library() {
    ${CC:-cc} -std=c11 -O1 -g -shared -fPIC -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags tine) \
        bindings/go/testdata/functions.c -o "$TINE_GO_LIBRARY" &&
        ${CXX:-g++} -std=c++17 -O1 -g -shared -fPIC -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags tine) \
            bindings/go/testdata/record.cc -o "${TINE_GO_LIBRARY%.so}-cpp.so" &&
        ${CC:-cc} -std=c11 -O1 -g -shared -fPIC -Wall -Wextra -Wpedantic -Werror \
            bindings/go/testdata/no_thread.c -o "${TINE_GO_LIBRARY%.so}-no-thread.so"
}

# Where cgo is off, the first thing that is said is what to do.
without_cgo() {
    ! GO_CGO=0 ci/go.sh -C bindings/go build . >$out/cgo.txt 2>&1 && sed -n 2p $out/cgo.txt | grep -q 'set_CGO_ENABLED_1'
}

documented() { ci/go.sh -C bindings/go doc -all . >$out/doc.txt; }

try toolchain ci/go.sh version
try format formatted
try vet ci/go.sh -C bindings/go vet ./...
try without-cgo without_cgo
try library library
try test go_tests plain
try race go_tests race -race
try nobody-left nobody_left
try thumbnails thumbnails
try pages pages
try doc documented
counted
