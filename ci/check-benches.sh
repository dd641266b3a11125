#!/bin/sh
# The benchmarks build without a warning, write one line for each single figure, and name a peer that is not here. What they measure is
# `make bench`'s affair.
set -eu
cd "$(dirname "$0")/.."
export PKG_CONFIG_PATH="$PWD/build/prefix/lib/pkgconfig"
b=build/benches/check
mkdir -p $b
for source in benches/*.c; do
    # shellcheck disable=SC2046  # a list of words
    ${CC:-cc} -std=gnu11 -O2 -fopenmp -Wall -Wextra -Werror "$source" -o "$b/$(basename "$source" .c)" $(pkg-config --cflags --libs tine) \
        -pthread -Wl,-rpath,"$PWD/build/prefix/lib"
done

# Instructions are the same on every run. A task in C++ is to take 5 % more of them than one in C at most; other compilers make other code.
benches/instructions.sh binding >$b/instructions.txt
cat $b/instructions.txt
awk '/^a whole task / { ratio = $NF } END { exit !(ratio > 0.9 && ratio <= 1.1) }' $b/instructions.txt

rm -f $b/figures.csv
TINE_BENCH_CSV=$b/figures.csv timeout 120 $b/heap 2 "one thread" >$b/heap.txt
cat $b/heap.txt
grep -q '^alloc and free of 64 B, one thread ' $b/heap.txt
# A row and its peer, two rounds each, ten fields a line.
sed 's/"[^"]*"/name/g' $b/figures.csv |
    awk -F, 'NF != 10 || $NF <= 0 { bad = 1 } END { exit bad || NR != 4 }' || { cat $b/figures.csv; exit 1; }

# Where a peer's interpreter can't be run, its rows are named and the others measured.
PYTHON_PEERS=false timeout 120 $b/pool 1 "100,000 empty tasks" >$b/pool.txt
cat $b/pool.txt
grep -q '^not here: loky$' $b/pool.txt
grep -q '^100,000 empty tasks, each ' $b/pool.txt
