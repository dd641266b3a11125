#!/bin/bash
# Pools on the nodes of an MPI job, under each MPI: libtine-mpi is compiled with its mpicc, and each case of tests/mpi/nodes.c is a job of 4
# ranks on this machine. TINE_STORM=1: 100,000 tasks with 1,000 kills, and an input of more than 2 GiB.
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
    cc -std=c11 -pthread $flags tests/mpi/nodes.c -o "$out/nodes" $libs
    # What differs is its build-id alone.
    cc -std=c11 -pthread $flags -Wl,--build-id=0x0123456789abcdef tests/mpi/nodes.c -o "$out/nodes-of-another-build" $libs
}

without_mpirun() { # it says so itself that it has no nodes
    env -u TINE_ENGINE "$out/nodes" storm >"$out/alone.log" 2>&1 && return 1
    grep -q 'there is no engine MPI: libtine-mpi is not linked' "$out/alone.log"
    TINE_ENGINE=mpi TINE_MPI_LIBRARY=/nowhere.so "$out/nodes" storm >"$out/alone.log" 2>&1 && return 1
    grep -q '/nowhere.so' "$out/alone.log"
}

library() { # library MPI
    mkdir -p "$out/$1"
    # shellcheck disable=SC2086
    "mpicc.$1" -shared -fPIC $flags mpi/tine-mpi.c -o "$out/$1/libtine-mpi.so" $libs
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
    TINE_ENGINE=mpi TINE_MPI_LIBRARY=$out/$mpi/libtine-mpi.so timeout -k 5 "$limit" "mpirun.$mpi" $options -n "${RANKS-4}" "$@"
}

case_of() { # case_of MPI NAME
    job "$1" "$out/nodes" "$2" >"$out/$1/$2.log" 2>&1 || { tail -n 25 "$out/$1/$2.log"; return 1; }
    sed -n '/^storm: /p' "$out/$1/$2.log"
}

# The job has a node less, and ends with a failure; the case has passed before.
lost_node() {
    TINE_MPI_TIMEOUT_MS=3000 job "$1" "$out/nodes" a_node_that_hangs_is_lost >"$out/$1/lost.log" 2>&1 && return 1
    grep -q '^1 passed, 0 failed' "$out/$1/lost.log" || { tail -n 25 "$out/$1/lost.log"; return 1; }
}

# MPI ends the job: nobody hangs.
killed_rank() {
    local began=$SECONDS
    job "$1" "$out/nodes" rank_is_killed >"$out/$1/killed.log" 2>&1 && return 1
    [ $((SECONDS - began)) -lt "$limit" ]
}

# The environment says a time that is none: the job ends at once, and says which.
wrong_time() {
    local time
    for time in soon 0 -5 30s 99999999999999999999; do
        TINE_MPI_TIMEOUT_MS=$time job "$1" "$out/nodes" tasks_come_back >"$out/$1/time.log" 2>&1 && return 1
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

fortran() { # the sum of the squares of 1 to 1000, from 3 nodes
    # shellcheck disable=SC2086
    gfortran -Wall -O1 -J "$out" examples-c/squares.f90 -o "$out/squares" $libs
    job "$1" "$out/squares" >"$out/$1/squares.log" 2>&1
    grep -q '^sum of squares: 333833500.0$' "$out/$1/squares.log"
}

cases=$(sed -n 's/^    {"\([a-z_]*\)", .*/\1/p' tests/mpi/nodes.c | grep -v -e more_than_two_gib -e a_node_that_hangs_is_lost -e rank_is_killed)
[ -z "${TINE_STORM-}" ] || cases="$cases more_than_two_gib"
try "the program" program
try "without mpirun" without_mpirun
for mpi in openmpi mpich; do
    there "pools under $mpi: there is no mpicc.$mpi (Debian: lib$mpi-dev)" command -v mpicc.$mpi || continue
    try "$mpi: libtine-mpi" library $mpi
    for name in $cases; do try "$mpi: $name" case_of $mpi "$name"; done
    try "$mpi: a node that hangs is lost" lost_node $mpi
    try "$mpi: a rank that is killed ends the job" killed_rank $mpi
    try "$mpi: a time-out that is no number is refused" wrong_time $mpi
    try "$mpi: another build is refused" another_build $mpi
    there "a pool from Fortran: there is no gfortran" command -v gfortran || continue
    try "$mpi: from Fortran" fortran $mpi
done
counted
