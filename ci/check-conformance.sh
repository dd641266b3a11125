#!/bin/bash
# check-conformance.sh [PYTHON]: the conformance suite: every language's driver makes the calls of tests/conformance/cases.tsv, once for
# each start method, and what it finds must be what the table says. tests/conformance/README.md has more. With PYTHON, an interpreter
# that has libtine, it is Python's driver alone.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}
suite=tests/conformance
out=build/conformance${1:+-python} # which may run beside the others'
library=$PWD/$out/functions.so
mkdir -p $out
passed=0 failed=0

warnings='-Wall -Wextra -Wpedantic -Werror'
tine="$(pkg-config --cflags --libs tine) -Wl,-rpath,$(pkg-config --variable=libdir tine)" || exit 2
worker=$(pkg-config --variable=worker tine)
grep -v '^#' $suite/cases.tsv | grep . >$out/cases.tsv

drive() { # drive LANGUAGE START PROGRAM [WORKER]: one run over the table
    local name=$1-$2${4:+-worker} status
    timeout -k 5 120 "$3" "$2" "$library" ${4:+"$4"} <$suite/cases.tsv >"$out/$name.tsv" 2>"$out/$name.err"
    status=$?
    if [ $status = 0 ] && diff -U 2 $out/cases.tsv "$out/$name.tsv"; then
        echo "ok    $name: $(wc -l <$out/cases.tsv) calls"
        passed=$((passed + 1))
    else
        echo "FAIL  $name: exit status $status"
        sed 's/^/      | /' "$out/$name.err"
        failed=$((failed + 1))
    fi
}

# Lazily bound: a host may load it to have its names without having all that they call.
# shellcheck disable=SC2046,SC2086  # lists of words
${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -g -shared -fPIC -Wl,-z,lazy $warnings $(pkg-config --cflags tine) \
    $suite/functions.c -o "$library" || exit 1

done_with() { # prints the counts, and ends
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
    exit
}

if [ -n "${1-}" ]; then
    printf '#!/bin/sh\nexec "%s" -B %s/driver.py "$@"\n' "$1" "$suite" >$out/python
    chmod +x $out/python
    for start in forkserver spawn; do drive python $start $out/python; done
    drive python forkserver $out/python "$worker"
    done_with
fi

# shellcheck disable=SC2086
${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -g -pthread $warnings $suite/driver.c -o $out/c $tine || exit 1
for start in forkserver spawn fork; do
    drive c $start $out/c
done
drive c forkserver $out/c "$worker"

# shellcheck disable=SC2086
${CXX:-g++} -std=c++17 -O1 -g -pthread $warnings $suite/driver.cc -o $out/c++ $tine || exit 1
for start in forkserver spawn fork; do
    drive c++ $start $out/c++
done

# A Go program can't be forked: its workers are started, or run another program.
ci/go-module.sh conformance $suite/*.go && ci/go.sh -C build/go/conformance build -o "$PWD/$out/go" . || exit 1
drive go spawn $out/go
drive go spawn $out/go "$worker"
drive go forkserver $out/go "$worker"
done_with
