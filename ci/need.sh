#!/bin/sh
# need.sh demo|wheel|test|test-long: sees to it that what the target needs is there. Where root on Debian, what is missing gets
# installed; elsewhere the first missing package is named, by Debian's name for it.
set -eu

missing=
need() { # need PACKAGE COMMAND...: the package is there when the command succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
# What is built takes about this much. A full disk would show as compilers that crash.
case $1 in
    test) room_gib=6 ;;
    test-long) room_gib=14 ;;
    *) room_gib=2 ;;
esac
there_kib=$(df -Pk . | awk 'NR == 2 { print $4 }')
# What an earlier run has built need not be there again.
built_kib=$(du -skc build target 2>/dev/null | awk 'END { print $1 + 0 }')
if [ $((there_kib + built_kib)) -lt $((room_gib << 20)) ]; then
    echo "make $1 needs $room_gib GiB of disk in $PWD; there are $(((there_kib + built_kib) >> 20)) GiB" >&2
    exit 1
fi

need pkg-config pkg-config --version
# Without pkg-config there is no asking for the libraries; installing what is there already does no harm.
need libjpeg-dev pkg-config --exists libjpeg
need libpng-dev pkg-config --exists libpng
need g++ g++ --version
case $1 in
    demo) ;;
    wheel)
        need python3-venv python3 -c 'import ensurepip, venv'
        need python3-dev python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'
        ;;
    test | test-long)
        need clang clang --version
        need libuv1-dev pkg-config --exists libuv
        need cmake cmake --version
        need mandoc sh -c 'command -v mandoc'
        # For the Go toolchain, where there is none that is new enough: ci/go.sh gets it.
        case $(go version 2>/dev/null) in
            *go1.2[3-9]* | *go1.[3-9][0-9]*) ;;
            *) need python3-pip python3 -m pip --version ;;
        esac
        need python3-venv python3 -c 'import ensurepip, venv'
        need python3-dev python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'
        if [ "$1" = test-long ]; then
            for mpi in openmpi mpich; do need lib$mpi-dev sh -c "command -v mpicc.$mpi && command -v mpirun.$mpi"; done
            need gfortran gfortran --version
            # dpkg also knows packages that others merely name, and such as were there once.
            for package in debhelper dh-python lintian python3-all-dev python3-setuptools python3-wheel; do
                need $package sh -c "dpkg-query --show --showformat '\${db:Status-Status}' $package | grep -qx installed"
            done
        fi
        for tool in fmt clippy; do
            cargo "$tool" --version >/dev/null 2>&1 || { echo "make $1 needs cargo $tool" >&2; exit 1; }
        done
        ;;
    *) echo "usage: need.sh demo|wheel|test|test-long" >&2; exit 2 ;;
esac
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing"
    mkdir -p build/log
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of words
    { apt-get update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing; } \
        >build/log/apt 2>&1 || { tail -n 20 build/log/apt >&2; exit 1; }
else
    first=${missing# }
    echo "make $1 needs the package ${first%% *} (Debian's name); please install it and try again" >&2
    exit 1
fi
