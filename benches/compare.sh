#!/bin/bash
# compare.sh [BASE]: the instructions of single calls, of this tree's library and of commit BASE's, built with the same tools.
# A row that takes over 5 % more than it did is a failure, status 1. Without BASE the commit in benches/compare/base: whoever makes a
# call dearer on purpose writes the new commit there, and says why.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-$(cat benches/compare/base)}
out=$PWD/build/compare
base=$(git rev-parse --verify --quiet "$base^{commit}") || { echo "compare.sh: no commit ${1:-$base} in this repository" >&2; exit 2; }
mkdir -p "$out"

counts() { # counts NAME TREE: lines "row<tab>instructions" for the library of TREE
    local name=$1 tree=$2
    CARGO_TARGET_DIR=$out/target-$name make --silent -C "$tree" staged
    local prefix=$tree/build/prefix
    # shellcheck disable=SC2046  # a list of words
    ${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -Werror benches/compare/instructions.c -o "$out/$name" \
        $(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --cflags --libs tine) -Wl,-rpath,"$prefix/lib"
    timeout 600 "$out/$name"
}

if [ ! -d "$out/tree" ] || [ "$(cat "$out/tree.commit" 2>/dev/null)" != "$base" ]; then
    rm -rf "$out/tree"
    mkdir "$out/tree"
    git archive "$base" | tar -x -C "$out/tree"
    echo "$base" >"$out/tree.commit"
fi
counts base "$out/tree" >"$out/base.txt"
counts now "$PWD" >"$out/now.txt"
join -t "$(printf '\t')" -a 2 "$out/base.txt" "$out/now.txt" | awk -F '\t' -v base="${base:0:7}" '
    BEGIN { printf "%-16s %10s %10s %8s\n", "instructions", base, "now", "ratio" }
    NF < 3 { printf "%-16s %10s %10.1f\n", $1, "-", $2; next }
    { printf "%-16s %10.1f %10.1f %8.3f%s\n", $1, $2, $3, $3 / $2, ($3 > 1.05 * $2 ? "  over 1.05" : ""); rows++; bad += ($3 > 1.05 * $2) }
    END { print rows - bad " passed, " bad + 0 " failed"; exit bad || !rows }'
