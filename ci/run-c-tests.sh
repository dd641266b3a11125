#!/bin/bash
# run-c-tests.sh [FILE...]: the C tests, tests/c/*.c, each a program of its own that passes by exiting with 0.
#
# Each is built and run two ways, with the shared library as C and with the static one as C++, against the package that pkg-config finds, so that
# each language and each kind of library is; with TINE_STORM the other two as well. `make test-long` runs each in those two.
# Each runs in its own process with a time limit of 120 s, or what a comment of the form "limit: 300" in its first lines says. One that
# has such a comment takes long: as the second of the two it is only built.
# Two run at a time: one that waits should not hold up the rest.
# A test finds the ready-made worker in TINE_WORKER_PROGRAM, in TINE_TEST_LIBRARY a shared library of functions for
# workers, which is made from tests/c/lib/functions.c, and in TINE_TEST_PLUGINS the folder of two plugins, which are made from
# tests/c/lib/plugin.c. One that needs other libraries has a comment "packages: NAMES", for pkg-config.
# VARIANTS=shared-c builds and runs that one alone; LIMIT=7200 sets the time limit of all. OUT=FOLDER is where all that is made goes,
# and UNDER=COMMAND what runs each program: another kernel, say, or another machine (check-kernels.sh, check-aarch64.sh, check-musl.sh);
# UNDER=nothing only builds.
set -u
: "${VARIANTS=}" "${TINE_STORM=}" "${UNDER=}"
cd "$(dirname "$0")/.." || exit 2
out=${OUT:-build/c}
export OUT=$out
mkdir -p "$out"

variants=${VARIANTS:-shared-c static-c++}
[ -z "${TINE_STORM-}" ] || variants=${VARIANTS:-shared-c shared-c++ static-c static-c++}
warnings='-Wall -Wextra -Wpedantic -Werror'

build() { # build SOURCE LINK LANGUAGE PROGRAM
    local libs compiler packages
    packages=$(sed -n '1,20s|.*packages: \([^*]*\).*|\1|p' "$1" | head -n 1)
    case $3 in
        # C hides what isn't C; g++ never does, and defines this macro by itself.
        c) compiler="${CC:-cc} -std=c11 -D_GNU_SOURCE" ;;
        c++) compiler="${CXX:-g++} -x c++ -std=c++17" ;;
    esac
    case $2 in
        shared) libs="$(pkg-config --libs tine) -Wl,-rpath,$(pkg-config --variable=libdir tine)" ;;
        # The linker prefers the shared library, unless it is told the archive's name.
        static) libs=$(pkg-config --static --libs tine | sed 's/-ltine/-l:libtine.a/') ;;
    esac
    # shellcheck disable=SC2046,SC2086  # lists of words
    $compiler -O1 -g -pthread $warnings $(pkg-config --cflags tine $packages) "$1" -x none -o "$4" $libs \
        ${packages:+$(pkg-config --libs $packages)}
}

one() { # one SOURCE LINK LANGUAGE: leaves its log and its verdict beside the program
    local name program limit status verdict started
    name=$(basename "$1" .c)-$2-$3
    program=$out/$name
    rm -f "$program.verdict"
    exec >"$program.log" 2>&1
    started=$(date +%s%N)
    if [ ! -x "$program" ] || [ -n "$(find "$1" tests/c/*.h ci/run-c-tests.sh \
        "$(pkg-config --variable=libdir tine)"/libtine.* "$(pkg-config --variable=includedir tine)/tine.h" \
        -newer "$program")" ]; then
        build "$1" "$2" "$3" "$program" || { echo "does not build"; echo FAIL >"$program.verdict"; return; }
    fi
    limit=$(sed -n '1,20s/.*limit: \([0-9][0-9]*\).*/\1/p' "$1" | head -n 1)
    if [ "$UNDER" = nothing ] || { [ -n "$limit" ] && [ "$2-$3$VARIANTS$TINE_STORM" = static-c++ ]; }; then
        echo "built" >"$program.verdict"
        return
    fi
    limit=${LIMIT:-${limit:-120}}
    # shellcheck disable=SC2086  # a list of words
    timeout -k 5 "$limit" $UNDER "$program" </dev/null
    status=$? verdict=FAIL
    case $status in
        0) verdict=ok ;;
        124 | 137) echo "killed: it ran for more than $limit s, or something killed it" ;;
        *) echo "exit status $status" ;;
    esac
    printf '%-5s %6.1f s\n' $verdict "$((($(date +%s%N) - started) / 100000000))e-1" >"$program.verdict"
}

if [ "${1-}" = --one ]; then
    one "$2" "$3" "$4"
    exit
fi

pkg-config --exists tine || { echo "pkg-config finds no tine: make c-tests sets PKG_CONFIG_PATH" >&2; exit 2; }
TINE_WORKER_PROGRAM=$(pkg-config --variable=worker tine)
TINE_TEST_LIBRARY=$(realpath "$out")/functions.so
TINE_TEST_PLUGINS=$(realpath "$out")
export TINE_WORKER_PROGRAM TINE_TEST_LIBRARY TINE_TEST_PLUGINS
libraries() {
    local number
    # Lazily bound: a host may load it to have its functions' addresses without having all that they call.
    # shellcheck disable=SC2046,SC2086  # lists of words
    ${CC:-cc} -std=c11 -O1 -g -shared -fPIC -Wl,-z,lazy $warnings $(pkg-config --cflags tine) tests/c/lib/functions.c \
        -o "$TINE_TEST_LIBRARY.new" && mv "$TINE_TEST_LIBRARY.new" "$TINE_TEST_LIBRARY" || return
    for number in 1 2; do
        # shellcheck disable=SC2046,SC2086  # lists of words
        ${CC:-cc} -std=c11 -O1 -g -shared -fPIC -DPLUGIN=$number $warnings $(pkg-config --cflags tine) tests/c/lib/plugin.c \
            -o "$out/plugin.new" $(pkg-config --libs tine) -Wl,-rpath,"$(pkg-config --variable=libdir tine)" &&
            mv "$out/plugin.new" "$out/plugin$number.so" || return
    done
}
# A machine without a dynamic linker has no use for them.
[ "${LIBRARIES-}" = none ] || libraries || exit 2
[ $# -gt 0 ] || set -- tests/c/*.c
for source; do
    for variant in $variants; do
        printf '%s\0' "$source" "${variant%-*}" "${variant#*-}"
    done
done | xargs -0 -n 3 -P 2 "$0" --one

passed=0 failed=0 failures=()
for source; do
    for variant in $variants; do
        name=$(basename "$source" .c)-$variant
        verdict=$(cat "$out/$name.verdict" 2>/dev/null || echo "FAIL  no verdict")
        echo "$verdict  $name"
        # What the machine does not allow is said, with what it needs; it counts as nothing.
        grep '^not tested: ' "$out/$name.log" 2>/dev/null | sed 's/^/      | /'
        case $verdict in
            ok* | built) passed=$((passed + 1)) ;;
            *) failed=$((failed + 1)) failures+=("$name") ;;
        esac
    done
done
# Last, where who reads only the end of a log finds them.
for name in ${failures[@]+"${failures[@]}"}; do
    echo "FAIL  $name"
    tail -n 20 "$out/$name.log" | sed 's/^/      | /'
done
echo "$passed passed, $failed failed${failures[*]:+: ${failures[*]}}"
[ $failed = 0 ]
