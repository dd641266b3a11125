#!/bin/bash
# Installs as a packager would, below a DESTDIR, and looks at what is there.
set -eu
cd "$(dirname "$0")/.."
dest=$PWD/build/dest
prefix=/opt/tine
rm -rf "$dest"
make --silent install PREFIX=$prefix DESTDIR="$dest"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
IFS=. read -r major minor _ <<<"$version"
soname=libtine.so.$major
[ "$major" != 0 ] || soname=$soname.$minor # before 1.0 a minor version may break the ABI
(cd "$dest$prefix" && find . ! -type d -printf '%P %l\n' | sed 's/ $//' | LC_ALL=C sort) >build/installed.txt
diff - build/installed.txt <<END
include/tine.h
include/tine.hpp
$(cd bindings/cpp && LC_ALL=C ls tine/*.hpp | sed 's|^|include/|')
lib/cmake/tine/tine-config-version.cmake
lib/cmake/tine/tine-config.cmake
lib/libtine.a
lib/libtine.so $soname
lib/$soname libtine.so.$version
lib/libtine.so.$version
lib/pkgconfig/tine.pc
libexec/tine-worker
END
[ "$(readelf -d "$dest$prefix/lib/libtine.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')" = "$soname" ]
readelf -d "$dest$prefix/lib/libtine.so" | grep -q 'Flags:.*NODELETE'

# What tine.pc says holds where the package will be in the end.
export PKG_CONFIG_PATH=$dest$prefix/lib/pkgconfig
[ "$(pkg-config --modversion tine)" = "$version" ]
[ "$(pkg-config --cflags --libs tine | tr -s ' ' | sed 's/ $//')" = "-I$prefix/include -L$prefix/lib -ltine" ]
[ "$(pkg-config --variable=worker tine)" = $prefix/libexec/tine-worker ]
if grep -rq "$dest" "$PKG_CONFIG_PATH"; then
    echo "tine.pc names the DESTDIR" >&2
    exit 1
fi

# The worker finds its library wherever the whole is moved to, and says what it is for.
status=0
"$dest$prefix/libexec/tine-worker" 2>build/worker.txt || status=$?
[ $status = 2 ]
grep -q 'worker_path' build/worker.txt
