#!/bin/bash
# instructions.sh: the instructions of single calls, without what has to be asked for and with it: faults that never come (docs/testing.md), and a
# trace (docs/inspect.md). Then those of a whole task in C and in C++, with "binding" these alone. x86_64.
set -euo pipefail
cd "$(dirname "$0")/.."
export PKG_CONFIG_PATH=$PWD/build/prefix/lib/pkgconfig
b=build/benches
mkdir -p $b
libs="$(pkg-config --cflags --libs tine) -Wl,-rpath,$PWD/build/prefix/lib"
if [ "${1-}" != binding ]; then
    # shellcheck disable=SC2086  # a list of words
    ${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -Werror benches/compare/instructions.c -o $b/instructions $libs
    trace=$b/trace.json
    rm -f $trace
    timeout 600 $b/instructions >$b/plain.txt
    timeout 600 $b/instructions faults >$b/faults.txt
    TINE_TRACE=$trace timeout 600 $b/instructions >$b/traced.txt
    rm -f $trace
    tab=$(printf '\t')
    join -t "$tab" $b/plain.txt $b/faults.txt | join -t "$tab" - $b/traced.txt | awk -F '\t' '
        BEGIN { printf "%-16s %10s %10s %10s\n", "instructions", "plain", "faults", "TINE_TRACE" }
        { printf "%-16s %10.1f %10.1f %10.1f\n", $1, $2, $3, $4 }
        END { print "" }'
fi
# shellcheck disable=SC2086  # a list of words
${CXX:-c++} -std=c++17 -O2 -g -Wall -Wextra -Werror benches/compare/binding.cc -o $b/binding-instructions $libs -pthread
$b/binding-instructions | awk -F '\t' '
    { name[NR] = $1; count[NR] = $2 }
    END { printf "%-16s %10s %10s %10s\n%-16s %10.1f %10.1f %10.3f\n", "instructions", name[1], name[2], "ratio", "a whole task", count[1], count[2], count[2] / count[1] }'
