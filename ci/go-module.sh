#!/bin/sh
# go-module.sh NAME FILE...: makes a module of a Go program's files, build/go/NAME, that finds the binding where it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
module=$root/build/go/$1
shift
mkdir -p "$module"
rm -f "$module"/*.go
cp "$@" "$module"
cat >"$module/go.mod" <<END
module program

go 1.23

require tine.example/tine v0.0.0

replace tine.example/tine => $root/bindings/go
END
