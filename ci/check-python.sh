#!/bin/bash
# check-python.sh [long]: the Python binding: linted, type-checked, built as a wheel, and tested from that wheel in an environment
# of its own; then, from the wheel or built from source, with every CPython that is found. long: CPython's
# and joblib's own tests as a whole, and the storms at length.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}
binding=bindings/python
out=$PWD/build/python
wheels=$PWD/build/wheels
python=$out/venv/bin/python
. ci/lib.sh

in_binding() { (cd $binding && "$@"); }

wheel() {
    ci/make-wheel.sh "$python" &&
        "$python" -m pip install --quiet --no-index --no-deps --force-reinstall "$wheels"/*.whl
}

# As this version's own multiprocessing: an earlier one lacks some of what libtine has.
as_theirs() { # as_theirs PYTHON
    "$1" -m pip install --quiet --disable-pip-version-check "$(grep ^pytest== $binding/tests/requirements.txt)" &&
        in_binding timeout -k 5 300 "$1" -B -m pytest -q --no-header -p no:cacheprovider tests/test_edge_cases.py tests/test_surface.py
}

# The README's program, with nothing but the package; then what is compared with multiprocessing, and CPython's own tests.
with_python() { # with_python PYTHON
    local where=$out/other
    rm -rf "$where"
    "$1" -m venv "$where" || return
    if "$where/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        "$where/bin/python" -m pip install --quiet --no-index --no-deps "$wheels"/*.whl || return
    else
        "$where/bin/python" -m pip install --quiet --disable-pip-version-check "setuptools>=68" wheel &&
            "$where/bin/python" -m pip install --quiet --no-build-isolation --no-deps "$wheels"/*.tar.gz || return
    fi
    awk '/^```python$/ { inside = 1; next } /^```/ { exit } inside' $binding/README.md >"$where/readme.py"
    (cd "$where" && timeout -k 5 60 bin/python readme.py) || return
    ! "$where/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || as_theirs "$where/bin/python" || return
    timeout -k 5 900 "$where/bin/python" -B $binding/tests/cpython.py $long
}

# python3.N on the path, and those that pyenv keeps; one of each version.
pythons() {
    for candidate in $(compgen -c python3. | grep -E "^python3\.[0-9]+$" | sort -u) "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
        "$candidate" -c 'import sys, venv, ensurepip
if sys.version_info >= (3, 9) and sys.implementation.name == "cpython": print("%d.%02d" % sys.version_info[:2], sys.executable)' 2>/dev/null
    done | sort -u -k 1,1 | cut -d ' ' -f 2
}

long=${1:+--long}
[ -z "$long" ] || export TINE_STORM=1
mkdir -p "$out"
python3 -m venv --clear "$out/venv" &&
    "$python" -m pip install --quiet --disable-pip-version-check -r $binding/tests/requirements.txt || exit 1
try wheel wheel
try ruff in_binding "$out/venv/bin/ruff" check --no-cache .
try format in_binding "$out/venv/bin/ruff" format --no-cache --check .
try mypy in_binding "$out/venv/bin/mypy" --cache-dir "$out/mypy"
try conformance ci/check-conformance.sh "$python"
try "pools on nodes" ci/check-mpi.sh "$python"
try cpython_objects in_binding timeout -k 5 900 "$python" -B tests/cpython_objects/run.py $long
try joblib in_binding timeout -k 5 1800 "$python" -B tests/joblib_suite.py $long
try pytest in_binding timeout -k 5 900 "$python" -B -m pytest -q --no-header -p no:cacheprovider
for other in $(pythons); do try "$("$other" --version)" with_python "$other"; done

counted
