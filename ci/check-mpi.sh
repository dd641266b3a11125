#!/bin/bash
# check-mpi.sh [PYTHON]: pools on the nodes of an MPI job, under each MPI: libtine-mpi is compiled with its mpicc, and each case of tests/mpi is a job of 4
# ranks on this machine. With PYTHON, an interpreter that has libtine, it is Python's program alone. TINE_STORM=1: 100,000 tasks with 1,000 kills, and an input of more than 2 GiB.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/lib.sh
out=$PWD/build/mpi prefix=$PWD/build/prefix
mkdir -p "$out"
flags="-Wall -Wextra -Wpedantic -Werror -O2 -g -I$prefix/include"
libs="-L$prefix/lib -ltine -Wl,-rpath,$prefix/lib"
limit=${LIMIT-200}

# shellcheck disable=SC2086  # lists of flags
program() {
    cc -std=c11 -pthread $flags tests/mpi/*.c -o "$out/nodes" $libs
    cc -std=c11 -shared -fPIC $flags -Wl,--build-id tests/mpi/work.c -o "$out/libwork.so" $libs
    # What differs is its build-id alone.
    cc -std=c11 -pthread $flags -Wl,--build-id=0x0123456789abcdef tests/mpi/*.c -o "$out/nodes-of-another-build" $libs
}

without_mpirun() { # it says so itself that it has no nodes
    env -u TINE_ENGINE "$out/nodes" storm >"$out/alone.log" 2>&1 && return 1
    grep -q 'TINE_ENGINE_MPI is not available: libtine-mpi is not linked' "$out/alone.log"
    TINE_ENGINE=mpi TINE_MPI_LIBRARY=/nowhere.so "$out/nodes" storm >"$out/alone.log" 2>&1 && return 1
    grep -q '/nowhere.so' "$out/alone.log"
}

library() { # library MPI
    mkdir -p "$out/$1"
    # shellcheck disable=SC2086
    "mpicc.$1" -shared -fPIC $flags mpi/tine-mpi.c -o "$out/$1/libtine-mpi.so" $libs
    # shellcheck disable=SC2086
    "mpicc.$1" -D_GNU_SOURCE -pthread $flags -Wl,--build-id tests/mpi/own/own.c -o "$out/$1/own" $libs
    # One in which MPI's calls fail when a test says so.
    mkdir -p "$out/$1/faults"
    # shellcheck disable=SC2086
    "mpicc.$1" -shared -fPIC $flags mpi/tine-mpi.c tests/mpi/faults/faults.c -o "$out/$1/faults/libtine-mpi.so" $libs
}

job() { # job MPI PROGRAM [ARGUMENT]...
    local mpi=$1 options=
    shift
    if [ "$mpi" = openmpi ]; then
        # More ranks than processors, and none tied to one. In a container the kernel may refuse that one rank reads another one's memory.
        options="--oversubscribe --bind-to none --mca btl_vader_single_copy_mechanism none"
        [ "$(id -u)" != 0 ] || options="$options --allow-run-as-root"
    fi
    # shellcheck disable=SC2086
    TINE_ENGINE=mpi TINE_MPI_LIBRARY=$out/$mpi/${FAULTS-}libtine-mpi.so TINE_MPI_REPORT=${REPORT-$out/report} timeout -k 5 "$limit" "mpirun.$mpi" $options -n "${RANKS-4}" "$@"
}

# What the ranks of a job say is in LOG, whatever becomes of mpirun, which may lose the last lines of a job that ends with a failure.
says() { # says LOG MPI PROGRAM [ARGUMENT]...
    local log=$1 mpi=$2
    shift 2
    rm -f "$log"
    # shellcheck disable=SC2016  # for the ranks' own shell
    job "$mpi" sh -c 'log=$1; shift; exec "$@" >>"$log" 2>&1' sh "$log" "$@" >"$log.mpirun" 2>&1
}

case_of() { # case_of MPI NAME
    job "$1" "$out/nodes" "$2" >"$out/$1/$2.log" 2>&1 || { tail -n 25 "$out/$1/$2.log"; return 1; }
    sed -n '/^storm: /p' "$out/$1/$2.log"
}

# The job has fewer nodes in the end, and ends with a failure; the case has passed before.
lost_node() { # lost_node MPI CASE
    TINE_MPI_TIMEOUT_MS=${WITHIN-4000} says "$out/$1/$2.log" "$1" "$out/nodes" "$2" && return 1
    grep -q '^1 passed, 0 failed' "$out/$1/$2.log" || { tail -n 25 "$out/$1/$2.log"; return 1; }
}

# What MPI says of one node, or of nobody.
errors() {
    FAULTS=faults/ case_of "$1" an_error_of_nobodys_costs_no_node || return 1
    for name in an_error_costs_its_node a_message_without_length_costs_its_node; do FAULTS=faults/ lost_node "$1" $name || return 1; done
}

# A program that calls MPI by itself ends, and so does its job, in good order.
own() { # own MPI CASE [LIBRARY]
    job "$1" "$out/$1/own" "${@:2}" >"$out/$1/own.log" 2>&1 || { tail -n 25 "$out/$1/own.log"; return 1; }
    # mpirun may put the lines of two ranks into one.
    [ "$(grep -o 'own: done' "$out/$1/own.log" | wc -l)" = "$([ "$2" = uneven ] && echo 4 || echo 1)" ] || { tail -n 25 "$out/$1/own.log"; return 1; }
}

# Both of the job's nodes are lost, one after the other, with a new pool after each.
lost_nodes() {
    RANKS=3 WITHIN=5000 lost_node "$1" a_pool_is_made_after_a_loss
}

# The only node stops while it sends: at once, or somewhat later.
lost_amid() {
    local after
    for after in ${TINE_STORM:+0 5000 20000 40000} 10000; do
        RANKS=2 TINE_AFTER_US=$after lost_node "$1" a_node_hangs_amid_its_output || return 1
    done
}

# MPI ends the job: nobody hangs, and rank 0's witness says what became of every task. It may do so when mpirun has ended.
reported() { # reported MPI CASE
    local began=$SECONDS log=$out/$1/$2.log report=$out/$1/$2.report
    rm -f "$report"
    REPORT=$report job "$1" "$out/nodes" "$2" >"$log" 2>&1 && return 1
    until grep -q '^tine: end of the report: ' "$report" 2>/dev/null; do
        [ $((SECONDS - began)) -lt "$limit" ] || { tail -n 25 "$log" "$report"; return 1; }
        sleep 0.02
    done
    # Each task once, those that have been told and no other; none in a state that it cannot have.
    diff <(sed -n 's/^task //p' "$log" | sort) <(sed -n 's/^tine: pool 1: task \(0x[0-9a-f]*\): .*/\1/p' "$report" | sort)
    [ "$(sed -n 's/^task //p' "$log" | sort -u | wc -l)" = 55 ]
    [ "$(grep -c ': settled, RAN, with 7$' "$report")" = 5 ]
    [ "$(grep -c ': MAYBE_RAN, on rank [123]$' "$report")" -ge 6 ]
    [ $(($(grep -c ': MAYBE_RAN, on rank [123]$' "$report") + $(grep -c ': NOT_STARTED$' "$report"))) = 50 ]
    [ "$(grep -c '^tine: ' "$report")" = 57 ]
}

# Of a map the report names each item that had not settled, once, and no other.
names_what_is_open() { # names_what_is_open OPEN REPORT
    diff <(sort -n "$1") <(sed -n 's/^tine: pool 1: map 1: items* \([0-9]*\)\( to \([0-9]*\)\)*: .*/\1 \3/p' "$2" |
        while read -r first last; do seq "$first" "${last:-$first}"; done | sort -n) || { tail -n 25 "$2"; return 1; }
}

map_reported() {
    local began=$SECONDS log=$out/$1/map.log report=$out/$1/map.report open=$out/$1/map.open
    rm -f "$report" "$open"
    TINE_OPEN_ITEMS=$open REPORT=$report job "$1" "$out/nodes" host_is_killed_in_a_map >"$log" 2>&1 && return 1
    until grep -q '^tine: end of the report: ' "$report" 2>/dev/null; do
        [ $((SECONDS - began)) -lt "$limit" ] || { tail -n 25 "$log" "$report"; return 1; }
        sleep 0.02
    done
    names_what_is_open "$open" "$report" || return 1
    [ "$(sort -u "$open" | wc -l)" -ge 19500 ]
    grep -q '^tine: pool 1: map 1: items [0-9]* to [0-9]*: MAYBE_RAN, on rank [123]$' "$report"
    grep -q '^tine: pool 1: map 1: items [0-9]* to 19999: NOT_STARTED$' "$report"
}

# A chunk that has come back in part is open until the map has dealt with it.
part_reported() {
    local began=$SECONDS log=$out/$1/part.log report=$out/$1/part.report open=$out/$1/part.open
    rm -f "$report" "$open"
    TINE_OPEN_ITEMS=$open REPORT=$report job "$1" "$out/nodes" host_is_killed_with_a_part >"$log" 2>&1 && return 1
    until grep -q '^tine: end of the report: ' "$report" 2>/dev/null; do
        [ $((SECONDS - began)) -lt "$limit" ] || { tail -n 25 "$log" "$report"; return 1; }
        sleep 0.02
    done
    [ -s "$open" ] && names_what_is_open "$open" "$report"
}

# Ranks are killed at any moment, in one job after the other: each job ends, and its report has every task that was accepted, and none that was not.
rank_storm() {
    local round report=$out/$1/ranks.report counts=$out/$1/ranks.counts began total
    for ((round = 0; round < ${TINE_STORM:+50} + 4; round++)); do
        began=$SECONDS
        rm -f "$report"
        export TINE_RANK=$((round % 3 > 0)) TINE_AFTER_US=$((round * 7919 % 60 * 1000)) TINE_COUNTS=$counts
        REPORT=$report job "$1" "$out/nodes" a_rank_dies_at_work >"$out/$1/ranks.log" 2>&1 && return 1
        until grep -q '^tine: end of the report: ' "$report" 2>/dev/null; do
            [ $((SECONDS - began)) -lt "$limit" ] || { tail -n 25 "$out/$1/ranks.log" "$report"; return 1; }
            sleep 0.02
        done
        total=$(sed -n 's/^tine: end of the report: \([0-9]*\) NOT_STARTED, \([0-9]*\) MAYBE_RAN, \([0-9]*\) settled, \([0-9]*\) .*/\1 + \2 + \3 + \4/p' "$report")
        read -r begun accepted taken <<<"$(od -A n -t u8 -w24 "$counts")"
        [ "$(grep -c '^tine: pool 1: task ' "$report")" = $((total - ${total##* + })) ]
        [ $((total)) -ge "$accepted" ] && [ $((total)) -le "$begun" ] && [ "${total##* + }" -ge "$taken" ] ||
            { echo "round $round: begun $begun, accepted $accepted, taken $taken; the report has $total"; return 1; }
    done
}

# Whoever ends in good order leaves an empty report; one that cannot be written is refused.
no_report() {
    rm -f "$out/$1/none.report"
    REPORT=$out/$1/none.report job "$1" "$out/nodes" tasks_come_back >"$out/$1/none.log" 2>&1
    [ -e "$out/$1/none.report" ]
    [ ! -s "$out/$1/none.report" ]
    REPORT=/nowhere/report says "$out/$1/none.log" "$1" "$out/nodes" tasks_come_back && return 1
    grep -q 'TINE_MPI_REPORT is "/nowhere/report": ' "$out/$1/none.log"
}

# The environment says a time that is none: the job ends at once, and says which.
wrong_time() {
    local time
    for time in soon 0 -5 30s 99999999999999999999; do
        TINE_MPI_TIMEOUT_MS=$time says "$out/$1/time.log" "$1" "$out/nodes" tasks_come_back && return 1
        grep -q "TINE_MPI_TIMEOUT_MS is \"$time\"" "$out/$1/time.log" || { tail -n 25 "$out/$1/time.log"; return 1; }
    done
}

# Rank 2 runs a program with another build-id: pools are refused, and the text names the rank.
another_build() {
    local each='-n 1' program=$out/nodes
    # shellcheck disable=SC2086
    RANKS=1 job "$1" "$program" storm : $each "$program" : $each "$program-of-another-build" : $each "$program" >"$out/$1/build.log" 2>&1 && return 1
    grep -q 'tine_pool_create: rank 2 on .* runs another build of ' "$out/$1/build.log" || { tail -n 25 "$out/$1/build.log"; return 1; }
}

# Four hosts, so that what is sent goes over a network.
hosts() {
    TINE_ENGINE=mpi TINE_MPI_LIBRARY=$out/$1/libtine-mpi.so TINE_MPI_REPORT=$out/report timeout -k 5 "$limit" \
        tests/mpi/hosts.sh "$1" "$out/nodes" maps_are_as_here tasks_come_back >"$out/$1/hosts.log" 2>&1 &&
        grep -q '^2 passed, 0 failed' "$out/$1/hosts.log" || { tail -n 25 "$out/$1/hosts.log"; return 1; }
}

python() { # python MPI INTERPRETER
    job "$1" "$2" -B tests/mpi/nodes.py >"$out/$1/python.log" 2>&1 || { tail -n 25 "$out/$1/python.log"; return 1; }
    [ "$(grep -c '^python: done$' "$out/$1/python.log")" = 1 ]
}

fortran() { # the sum of the squares of 1 to 1000, from 3 nodes
    # shellcheck disable=SC2086
    gfortran -Wall -O1 -J "$out" examples-c/squares.f90 -o "$out/squares" $libs
    job "$1" "$out/squares" >"$out/$1/squares.log" 2>&1
    grep -q '^sum of squares: 333833500.0$' "$out/$1/squares.log"
}

# The example, here and on the nodes: the same program with the same arguments makes the same pictures, and says the same of the one that is damaged.
thumbnails() {
    # shellcheck disable=SC2046,SC2086
    cc -std=c11 $flags examples-c/thumbnails.c examples-c/files.c examples-c/image.c -o "$out/thumbnails" $(pkg-config --cflags --libs libjpeg libpng) $libs
    rm -rf "$out/here" "$out/$1/there"
    exits 1 "$out/thumbnails" -j 2 examples-c/samples "$out/here" >"$out/thumbnails.log" 2>&1
    exits 1 job "$1" "$out/thumbnails" -j 2 examples-c/samples "$out/$1/there" >"$out/$1/thumbnails.log" 2>&1
    diff -r "$out/here" "$out/$1/there"
    diff <(sed -n '/files failed:/,/^  /p' "$out/thumbnails.log") <(sed -n '/files failed:/,/^  /p' "$out/$1/thumbnails.log")
}

# The conformance suite's table, with its driver for C. Other machines do not have the heap: of a case in which a worker is given an address there,
# the call that does so, or shares a segment, is made alone, and refused; all else is as the table has it.
conformance_program() {
    local suite=tests/conformance table=$out/table.tsv
    # shellcheck disable=SC2086
    cc -std=c11 -D_GNU_SOURCE -shared -fPIC -Wl,-z,lazy $flags $suite/functions.c -o "$out/functions.so"
    # shellcheck disable=SC2086
    cc -std=c11 -D_GNU_SOURCE -pthread $flags $suite/driver.c -o "$out/driver" $libs
    grep -v '^#' $suite/cases.tsv | grep . >"$table"
    awk -F '\t' -v OFS='\t' '
        { gives = $2 ~ /^(pool\.(submit|map)|stream\.put)$/ && $3 ~ /words:@/ || $2 == "pool.share" }
        NR == FNR { if (gives) refused[$1] = 1; next }
        !refused[$1] { print; next }
        told[$1] { next }
        gives { $4 = $2 == "pool.map" ? "EFAULT sum 0" : $2 == "pool.share" ? "EOPNOTSUPP" : "EFAULT"; told[$1] = 1 }
        gives || $2 ~ /\.create$|^heap\.alloc$/' "$table" "$table" >"$out/cases.tsv"
    [ "$(grep -c EFAULT "$out/cases.tsv")" -gt 10 ]
    [ "$(wc -l <"$out/cases.tsv")" -gt $(($(wc -l <"$table") / 2)) ]
}

conformance() {
    job "$1" "$out/driver" forkserver "$out/functions.so" <"$out/cases.tsv" >"$out/$1/cases.tsv" 2>"$out/$1/conformance.log" || {
        tail -n 25 "$out/$1/conformance.log"
        return 1
    }
    diff -U 2 "$out/cases.tsv" "$out/$1/cases.tsv"
}

if [ -n "${1-}" ]; then
    for mpi in openmpi mpich; do
        there "Python's pools under $mpi: there is no mpicc.$mpi (Debian: lib$mpi-dev)" command -v mpicc.$mpi || continue
        try "$mpi: libtine-mpi" library $mpi
        try "$mpi: from Python" python $mpi "$1"
    done
    counted
    exit
fi

cases=$(sed -n 's/^    {"\([a-z_]*\)", .*/\1/p' tests/mpi/nodes.c | grep -v -e more_than_two_gib -e a_node_that_hangs -e a_node_hangs -e a_pool_is_made_after_a_loss -e rank_is_killed -e host_ -e a_rank_dies -e an_error_ -e a_message_without_length)
[ -z "${TINE_STORM-}" ] || cases="$cases more_than_two_gib"
try "the program" program
try "without mpirun" without_mpirun
try "the conformance suite's program" conformance_program
for mpi in openmpi mpich; do
    there "pools under $mpi: there is no mpicc.$mpi (Debian: lib$mpi-dev)" command -v mpicc.$mpi || continue
    try "$mpi: libtine-mpi" library $mpi
    for name in $cases; do try "$mpi: $name" case_of $mpi "$name"; done
    for name in a_node_that_hangs_is_lost a_node_hangs_among_busy_ones; do try "$mpi: $name" lost_node $mpi $name; done
    try "$mpi: a_node_hangs_amid_its_output" lost_amid $mpi
    try "$mpi: a pool is made after a loss" lost_nodes $mpi
    try "$mpi: errors of one node, and of nobody" errors $mpi
    for name in pool none uneven before; do try "$mpi: a program with calls of MPI of its own: $name" own $mpi $name "$out/libwork.so"; done
    for name in rank_is_killed host_is_killed host_forks_and_is_killed host_leaves_at_once; do try "$mpi: the report when $name" reported $mpi $name; done
    try "$mpi: the report of a map" map_reported $mpi
    try "$mpi: the report of a chunk that has come back in part" part_reported $mpi
    try "$mpi: a rank dies at work" rank_storm $mpi
    try "$mpi: no report" no_report $mpi
    try "$mpi: conformance" conformance $mpi
    try "$mpi: a time-out that is no number is refused" wrong_time $mpi
    try "$mpi: another build is refused" another_build $mpi
    try "$mpi: the thumbnails example" thumbnails $mpi
    if there "$mpi: hosts in network namespaces of their own: takes root" unshare --net ip link add port type veth peer name other; then
        try "$mpi: hosts with a network between them" hosts $mpi
    fi
    there "a pool from Fortran: there is no gfortran" command -v gfortran || continue
    try "$mpi: from Fortran" fortran $mpi
done
counted
