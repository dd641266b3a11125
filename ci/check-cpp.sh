#!/bin/bash
# The C++ binding: tests/cpp/*.cpp compiled by gcc and clang as C++17 and C++20 without a warning, run as clang has them, and as
# gcc has them under AddressSanitizer and UBSan; tests/cpp/refused/*.cpp, which must not compile and whose first line says what
# the compiler must say; each header alone; and a program built by CMake. Two at a time.
# check-cpp.sh [long] [NAME...]: these tests alone (submit, refused, headers, cmake). long: what runs under the sanitizers is optimised, which takes
# the compiler three times as long.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}
out=build/cpp
mkdir -p $out
passed=0 failed=0

warnings='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror'
include=$(pkg-config --cflags tine) || exit 2
libraries="$(pkg-config --libs tine) -Wl,-rpath,$(pkg-config --variable=libdir tine)"
gcc=${CXX:-g++} clang=${CLANGXX:-clang++}

# try NAME COMMAND...: leaves its log and its verdict in $out
try() {
    local name=$1 verdict=FAIL
    shift
    rm -f "$out/$name.verdict"
    "$@" >"$out/$name.log" 2>&1 && verdict=ok
    echo $verdict >"$out/$name.verdict"
}

# What a first line "// flags: ..." says.
flags_of() { sed -n '1s|^// flags: ||p' "tests/cpp/$1"; }

# build NAME PROGRAM COMPILER FLAG...: tests/cpp/NAME.cpp; with a library of NAME_library.cc where there is one; and where there is a
# NAME_object.cc, compiled with what its own first line says, with that behind it, and as PROGRAM-reversed with that before it.
build() {
    local name=$1 program=$2 compiler=$3 library=
    shift 3
    # shellcheck disable=SC2046  # a list of words
    set -- "$@" $(flags_of "$name.cpp")
    if [ -e "tests/cpp/${name}_library.cc" ]; then
        # shellcheck disable=SC2086  # lists of words
        $compiler $warnings "$@" -g -pthread -shared -fPIC $include "tests/cpp/${name}_library.cc" -o "$program.so" $libraries || return 1
        library="-rdynamic $program.so -Wl,-rpath,$PWD/$out"
    fi
    if [ -e "tests/cpp/${name}_object.cc" ]; then
        # shellcheck disable=SC2046,SC2086
        $compiler $warnings "$@" $(flags_of "${name}_object.cc") -g -pthread -c $include "tests/cpp/${name}_object.cc" -o "$program.object.o" &&
            $compiler $warnings "$@" -g -pthread -c $include "tests/cpp/$name.cpp" -o "$program.o" &&
            $compiler "$@" -pthread "$program.o" "$program.object.o" -o "$program" $libraries &&
            $compiler "$@" -pthread "$program.object.o" "$program.o" -o "$program-reversed" $libraries
        return
    fi
    # shellcheck disable=SC2086
    $compiler $warnings "$@" -g -pthread $include "tests/cpp/$name.cpp" -o "$program" $library $libraries
}

check() { # check NAME COMPILER FLAG...: it compiles
    local source
    for source in tests/cpp/"$1".cpp tests/cpp/"$1"_library.cc tests/cpp/"$1"_object.cc; do
        # shellcheck disable=SC2046,SC2086
        [ ! -e "$source" ] || $2 $warnings "${@:3}" $(flags_of "$1.cpp") $(flags_of "${source##*/}") -fsyntax-only $include "$source" || return 1
    done
}

run() { # run NAME VARIANT COMPILER FLAG...
    local name=$1 variant=$2
    shift 2
    build "$name" "$out/$name-$variant" "$@" || return 1
    local program
    for program in "$out/$name-$variant" "$out/$name-$variant-reversed"; do
        [ ! -e "$program" ] || timeout -k 5 120 "$program" </dev/null || { echo "$program: exit status $?"; return 1; }
    done
}

# Workers are processes of their own, and write their reports beside the host's; a crash that is meant is told by its kind.
sanitized() { # sanitized NAME OPTIMISATION
    rm -f "$out/$1-report".*
    export ASAN_OPTIONS=abort_on_error=1:log_path=$PWD/$out/$1-report UBSAN_OPTIONS=print_stacktrace=1
    run "$1" sanitized "$gcc" -std=c++17 "$2" -fsanitize=address,undefined -fno-sanitize-recover=undefined || { cat "$out/$1-report".* /dev/null; return 1; }
    ! grep -l 'ERROR' "$out/$1-report".* 2>/dev/null || { cat "$out/$1-report".*; return 1; }
}

# It must not compile, and the reason must be what its first line says. The header is compiled once for all but those whose second
# line is "// flags: ...".
refused() { # refused COMPILER
    local file wanted flags status=0 compiler=$1 name
    name=$(basename "${compiler%% *}")
    # shellcheck disable=SC2086
    $compiler -std=c++17 -x c++-header $include "$(pkg-config --variable=includedir tine)/tine.hpp" -o "$out/$name.pch" || return 1
    local precompiled="-include-pch $out/$name.pch"
    if ! $compiler --version | grep -q clang; then # gcc takes it where it would take the header
        mkdir -p "$out/$name" && mv "$out/$name.pch" "$out/$name/all.hpp.gch" || return 1
        precompiled="-Winvalid-pch -Werror=invalid-pch -include $out/$name/all.hpp"
    fi
    for file in tests/cpp/refused/*.cpp; do
        wanted=$(sed -n '1s|^// refused: ||p' "$file")
        flags=$(sed -n '2s|^// flags: ||p' "$file")
        # shellcheck disable=SC2086
        if $compiler ${flags:--std=c++17 $precompiled} -fsyntax-only $include "$file" 2>"$out/$name.txt"; then
            echo "$file: $compiler compiles it"
            status=1
        elif ! { [ -n "$wanted" ] && tr -d '\n' <"$out/$name.txt" | grep -qF -- "$wanted"; }; then
            echo "$file: $compiler does not say: $wanted"
            cat "$out/$name.txt"
            status=1
        fi
    done
    # Too old a standard is the first thing that is said.
    # shellcheck disable=SC2086
    ! $compiler -std=c++14 -fsyntax-only $include -x c++ -include tine.hpp /dev/null 2>"$out/$name.txt" &&
        grep -m 1 'error:' "$out/$name.txt" | grep -qF 'tine.hpp needs C++17 or later' || { echo "$compiler does not say what C++14 lacks"; status=1; }
    return $status
}

# Each is enough for itself, and may be included twice.
headers() {
    local header
    (cd bindings/cpp && ls tine.hpp tine/*.hpp) | while read -r header; do
        # shellcheck disable=SC2086
        printf '#include <%s>\n#include <%s>\n' "$header" "$header" |
            $gcc -std=c++17 $warnings -fsyntax-only $include -x c++ - || exit 1
    done
}

by_cmake() {
    rm -rf $out/cmake
    cmake -S tests/cpp/cmake -B $out/cmake -DCMAKE_PREFIX_PATH="$(pkg-config --variable=prefix tine)" -DCMAKE_BUILD_TYPE=Release &&
        cmake --build $out/cmake && [ "$($out/cmake/shared)" = 42 ] && [ "$($out/cmake/static)" = 42 ] &&
        # The archive is in the one, and the library beside the other.
        ldd $out/cmake/shared | grep -q "libtine.so.0.1 =>" && ! ldd $out/cmake/static | grep -q libtine
}

if [ "${1-}" = --one ]; then
    shift
    try "$@"
    exit
fi
optimisation=-O0
if [ "${1-}" = long ]; then
    optimisation=-O1
    shift
fi

tasks() { # what to do, a line each
    local name
    for name; do
        case $name in
            refused)
                echo "refused-gcc refused $gcc"
                echo "refused-clang refused $clang"
                ;;
            headers) echo "headers headers" ;;
            cmake) echo "cmake by_cmake" ;;
            *)
                echo "$name-clang-20 run $name clang-20 $clang -std=c++20 -O1"
                echo "$name-sanitized sanitized $name $optimisation"
                echo "$name-gcc-20 check $name $gcc -std=c++20"
                echo "$name-clang-17 check $name $clang -std=c++17"
                ;;
        esac
    done
}

# shellcheck disable=SC2046  # names
[ $# -gt 0 ] || set -- $(basename -s .cpp tests/cpp/*.cpp) refused headers cmake
tasks "$@" >$out/tasks
xargs -L 1 -P 2 "$0" --one <$out/tasks
while read -r name _; do
    verdict=$(cat "$out/$name.verdict" 2>/dev/null || echo "FAIL")
    printf '%-5s %s\n' "$verdict" "$name"
    grep '^not tested: ' "$out/$name.log" 2>/dev/null | sed 's/^/      | /'
    if [ "$verdict" = ok ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        sed 's/^/      | /' "$out/$name.log" | tail -n 40
    fi
done <$out/tasks
echo "$passed passed, $failed failed"
[ $failed = 0 ]
