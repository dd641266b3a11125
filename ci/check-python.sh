#!/bin/bash
# The Python binding: linted, type-checked, built as a wheel, and tested from that wheel in an environment of its own.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}
binding=bindings/python
out=$PWD/build/python
wheels=$PWD/build/wheels
python=$out/venv/bin/python
passed=0 failed=0

try() { # try NAME COMMAND...
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
    fi
}

in_binding() { (cd $binding && "$@"); }

# Built from a copy: setuptools leaves files beside what it builds.
wheel() {
    rm -rf "$out/source" "$wheels" && mkdir -p "$wheels" && cp -r $binding "$out/source" &&
        "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$wheels" "$out/source" &&
        "$python" -m pip install --quiet --no-deps --force-reinstall "$wheels"/*.whl
}

mkdir -p "$out"
python3 -m venv --clear "$out/venv" &&
    "$python" -m pip install --quiet --disable-pip-version-check -r $binding/tests/requirements.txt || exit 1
try wheel wheel
try ruff in_binding "$out/venv/bin/ruff" check --no-cache .
try format in_binding "$out/venv/bin/ruff" format --no-cache --check .
try mypy in_binding "$out/venv/bin/mypy" --cache-dir "$out/mypy"
try cpython in_binding timeout -k 5 300 "$python" -B tests/cpython.py
try pytest in_binding timeout -k 5 300 "$python" -B -m pytest -q --no-header -p no:cacheprovider

echo "$passed passed, $failed failed"
[ $failed = 0 ]
