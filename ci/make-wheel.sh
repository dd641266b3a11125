#!/bin/bash
# make-wheel.sh [PYTHON]: the wheel for CPython 3.11 and later, with the library and tine-worker in it, and the source
# distribution, into build/wheels. PYTHON has setuptools and wheel; without it an environment with them is made.
set -eu
cd "$(dirname "$0")/.."
stage=$PWD/build/prefix
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
out=$PWD/build/python
wheels=$PWD/build/wheels
mkdir -p "$out"
python=${1:-}
if [ -z "$python" ]; then
    python3 -m venv --clear "$out/tools"
    python=$out/tools/bin/python
    grep -E '^(setuptools|wheel)==' bindings/python/tests/requirements.txt >"$out/tools.txt"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$out/tools.txt"
fi

# Built from a copy: setuptools leaves files beside what it builds. _lib keeps the two where they are to each other.
source=$out/source
rm -rf "$source" "$wheels"
mkdir -p "$wheels"
cp -r bindings/python "$source"
build() { (cd "$source" && "$python" -c "from setuptools import build_meta; build_meta.build_$1('$wheels')" >"$out/$1.log" 2>&1) ||
    { cat "$out/$1.log" >&2; exit 1; }; }
build sdist
soname=$(readlink "$stage/lib/libtine.so") # which is what the loader looks for
install -D "$stage/lib/$soname" "$source/src/libtine/_lib/lib/$soname"
strip --strip-unneeded "$source/src/libtine/_lib/lib/$soname"
install -D "$stage/libexec/tine-worker" "$source/src/libtine/_lib/libexec/tine-worker"
build wheel
ls "$wheels"
