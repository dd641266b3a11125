#!/bin/bash
# deb.sh [OPTION...]: Debian's source package and the packages made from it, in build/deb. What is packaged is what git tracks here, as it is now,
# and the crates that Cargo.lock names: those are fetched for the source package, and the build needs no network.
# The options go to dpkg-buildpackage: -S for the source package alone, -d where cargo and rustc are no packages of Debian's.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
out=$PWD/build/deb
source=$out/tine-$version
rm -rf "$out"
mkdir -p "$source"
git ls-files -z | tar --null --no-recursion -cT - | tar -xC "$source"
mv "$source/packaging/debian" "$out/debian"

cargo vendor --quiet --locked --versioned-dirs "$source/vendor" >/dev/null
# Cargo wants to see every crate that Cargo.lock names. Of those for other systems, which come with binaries, it sees the manifest.
for crate in "$source"/vendor/{windows,winapi}*; do
    [ -d "$crate" ] || continue
    find "$crate" -mindepth 1 ! -name Cargo.toml ! -name .cargo-checksum.json -delete
    mkdir "$crate/src"
    : >"$crate/src/lib.rs"
    sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
done
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -C "$out" -cJf "$out/tine_$version.orig.tar.xz" "tine-$version"

mv "$out/debian" "$source/debian"
{
    cat "$source/debian/copyright.head"
    (cd "$source" && cargo metadata --locked --format-version 1) | python3 -c '
import json, re, sys
for crate in json.load(sys.stdin)["packages"]:
    if crate["source"]:
        # The part of the choice that the packages make: all of them can be had under one of these.
        words = re.findall(r"[A-Za-z][\w.-]*", crate["license"])
        licence = next(name for name in ("MIT", "Apache-2.0", "MPL-2.0") if name in words)
        if "Unicode-3.0" in words:
            licence += " and Unicode-3.0"
        authors = ", ".join(re.sub(r" *<.*?>", "", author) for author in crate["authors"])
        print("Files: vendor/{name}-{version}/*".format(**crate))
        print("Copyright:", authors or "the authors of " + crate["name"])
        print("License:", licence + "\n")
'
    cat "$source/debian/copyright.tail"
} >"$source/debian/copyright"
rm "$source"/debian/copyright.*
cd "$source"
dpkg-buildpackage --no-sign "$@"
