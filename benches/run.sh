#!/bin/sh
# run.sh full|quick [PROGRAM [ROW]]: builds the programs of benches/ and their peers, measures everything in interleaved rounds, and
# lets report.py write tables and plots. `make bench` writes them into docs/benchmarks, `make bench-quick` into build/benches/quick
# in under five minutes. With PROGRAM only that one is run, and nothing is written but its table.
set -eu
cd "$(dirname "$0")/.."
mode=${1:-full}
case $mode in
    full) rounds=9 ; out=docs/benchmarks ;;
    quick) rounds=7 ; out=build/benches/quick ; export TINE_BENCH_QUICK=1 ;;
    *) echo "usage: run.sh full|quick [PROGRAM [ROW]]" >&2 ; exit 2 ;;
esac
b=build/benches
prefix=$PWD/build/prefix
mkdir -p $b/parts
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"

# Peers that may be there or not: crates, Python's packages, Boost. What is missing measures as 0, and is named below the table.
cargo build --quiet --release --locked --manifest-path benches/peers/Cargo.toml --target-dir $b/peers || echo "benches/peers does not build here"
if ! [ $b/venv/.made -nt benches/requirements.txt ]; then
    python3 -m venv $b/venv && $b/venv/bin/pip install --quiet --disable-pip-version-check -r benches/requirements.txt &&
        touch $b/venv/.made || echo "no Python environment here: without plots, and without Python's peers"
fi
export PYTHON_PEERS=$b/venv/bin/python
if [ -e /usr/include/boost/interprocess/ipc/message_queue.hpp ]; then
    ${CXX:-c++} -O2 benches/queue-boost.cc -o $b/queue-boost -pthread -lrt
fi

# NAME_PEER.cpp has a peer's part of NAME.c, which is told by HAVE_PEER that the peer is here; a line "links: -lLIBRARY" says what
# the peer needs.
build() {
    set -- "$1" $(for part in benches/"$1"_*.cpp; do
        [ -e "$part" ] || continue
        object=$b/parts/$(basename "$part" .cpp).o
        ${CXX:-c++} -std=c++17 -O2 -c "$part" -o "$object" 2>"$object.log" || continue
        echo "$object -DHAVE_$(basename "$part" .cpp | sed 's/.*_//' | tr '[:lower:]' '[:upper:]') $(sed -n 's/.*links: //p' "$part") -lstdc++"
    done)
    program=$1
    shift
    # shellcheck disable=SC2046  # a list of words
    ${CC:-cc} -std=gnu11 -O2 -fopenmp -Wall -Wextra "benches/$program.c" "$@" -o "$b/$program" $(pkg-config --cflags --libs tine) -pthread \
        -Wl,-rpath,"$prefix/lib"
}
programs=${2:-pool growth heap locks queue channel process}
for program in $programs; do build "$program"; done

if [ $# -gt 1 ]; then
    exec "$b/$2" $rounds ${3:+"$3"}
fi
csv=$out/figures.csv
mkdir -p $out
echo "program,row,line,axis,at,unit,scale,aim,round,ns" >$csv
for program in $programs; do
    printf '\n%s\n' "$program"
    TINE_BENCH_CSV=$csv "$b/$program" $rounds
done
if [ -x $PYTHON_PEERS ]; then
    $PYTHON_PEERS benches/report.py $csv $out "make bench$([ $mode = quick ] && echo -quick || true)"
    echo "the table and the plots are in $out/README.md"
fi
[ $mode = full ] || exit 0
# What has a table of its own: the bindings next to C.
benches/bindings.sh
