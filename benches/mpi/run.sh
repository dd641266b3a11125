#!/bin/bash
# run.sh [ROUNDS [MPI]...]: tasks on a node of an MPI job, next to mpi4py.futures and to bare MPI calls, in interleaved rounds, all on this
# machine with two ranks. Prints, for each MPI that is there and each row, the medians and the peers' times in tine's; and then the processor time
# of rank 0 for each task with 1, 4 and 16 nodes, from which docs/design/mpi.md computes how far it goes. Wants `make staged`.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5}
shift || true
[ $# -gt 0 ] || set -- openmpi mpich
out=$PWD/build/benches/mpi prefix=$PWD/build/prefix
python=$out/venv/bin/python
mkdir -p "$out"
if ! [ -e "$out/venv/.made" ]; then
    python3 -m venv "$out/venv" && "$python" -m pip install --quiet --disable-pip-version-check mpi4py && touch "$out/venv/.made"
fi

job() { # job MPI PROGRAM [ARGUMENT]...
    local options= mpi=$1
    shift
    if [ "$mpi" = openmpi ]; then
        options="--oversubscribe --bind-to none --mca btl_vader_single_copy_mechanism none"
        [ "$(id -u)" != 0 ] || options="$options --allow-run-as-root"
    fi
    # shellcheck disable=SC2086  # a list of words
    LD_LIBRARY_PATH=$out/$mpi/lib TINE_ENGINE=mpi TINE_MPI_LIBRARY=$out/$mpi/libtine-mpi.so timeout -k 5 300 "mpirun.$mpi" $options -n "${RANKS-2}" "$@"
}

measure() { # measure MPI PEER ROW COUNT
    case $2 in
        tine) job "$1" "$out/tasks" "$3" "$4" ;;
        bare) job "$1" "$out/$1/bare" "$3" "$4" ;;
        bare-two) job "$1" "$out/$1/bare" "$3-two" "$4" ;;
        mpi4py) MPI4PY_MPIABI=$1 job "$1" "$python" -m mpi4py.futures benches/mpi/futures.py "$3" "$4" ;;
    esac 2>>"$out/errors.log" | tail -n 1 || true
}

flags="-O2 -Wall -Wextra -I$prefix/include"
libs="-L$prefix/lib -ltine -Wl,-rpath,$prefix/lib"
: >"$out/errors.log"
# shellcheck disable=SC2086
cc -std=gnu11 $flags benches/mpi/tasks.c -o "$out/tasks" $libs
for mpi; do
    command -v "mpicc.$mpi" >/dev/null || { echo "not measured: there is no mpicc.$mpi"; continue; }
    mkdir -p "$out/$mpi/lib"
    # mpi4py looks for MPICH's library by another name than Debian has.
    [ "$mpi" != mpich ] || ln -sf "$(ldconfig -p | sed -n 's/.*libmpich.so.12 .* => //p' | head -n 1)" "$out/mpich/lib/libmpi.so.12"
    # shellcheck disable=SC2086
    "mpicc.$mpi" -shared -fPIC $flags mpi/tine-mpi.c -o "$out/$mpi/libtine-mpi.so" $libs
    # shellcheck disable=SC2086
    "mpicc.$mpi" $flags benches/mpi/bare.c -o "$out/$mpi/bare"
    # A row, how many for tine and the bare calls, how many for mpi4py, who is measured.
    while read -r row count fewer peers; do
        for ((round = 0; round < rounds; round++)); do
            for peer in $peers; do
                n=$count
                [ "$peer" != mpi4py ] || n=$fewer
                echo "$mpi $row $peer $(measure "$mpi" "$peer" "$row" "$n" </dev/null)"
            done
        done
    done <<ROWS
round-trip 2000 1000 tine bare mpi4py
tasks 100000 10000 tine mpi4py
items 1000000 100000 tine mpi4py
megabytes 500 200 tine bare bare-two mpi4py
long-items 320 0 tine
ROWS
done | tee "$out/figures.txt" | grep --line-buffered '^not measured' || true
sort -k 1,3 -k 4,4n "$out/figures.txt" | awk '
    $4 == "" { next }
    { key = $1 " " $2 " " $3; values[key, ++count[key]] = $4; if (!($1 " " $2 in seen)) { seen[$1 " " $2] = 1; order[++rows] = $1 " " $2 } }
    function median(key) { return count[key] ? values[key, int((count[key] + 1) / 2)] : 0 }
    function ratio(key, tine) { m = median(key); return m ? sprintf("%10.0f (%6.2f)", m, m / tine) : sprintf("%10s %8s", "-", "") }
    BEGIN { printf "%-20s %12s %20s %20s %20s\n", "ns each", "tine", "bare MPI (of tine)", "two at a time", "mpi4py (of tine)" }
    END {
        for (i = 1; i <= rows; i++) {
            t = median(order[i] " tine")
            if (t) printf "%-20s %12.0f %20s %20s %20s\n", order[i], t, ratio(order[i] " bare", t), ratio(order[i] " bare-two", t), ratio(order[i] " mpi4py", t)
        }
    }'

echo
echo "processor time of rank 0, ns each, smallest of $rounds; nodes: 1 4 16"
for mpi; do
    [ -e "$out/$mpi/libtine-mpi.so" ] || continue
    for row in tasks-cpu:20000 items-cpu:1000000; do
        printf '%-20s' "$mpi ${row%:*}"
        for nodes in 1 4 16; do
            for ((round = 0; round < rounds; round++)); do RANKS=$((nodes + 1)) measure "$mpi" tine "${row%:*}" "${row#*:}" </dev/null; done | sort -n | head -n 1 | xargs printf ' %8s'
        done
        echo
    done
done
