#!/bin/bash
# Builds Debian's packages without the network, reads them with lintian, and uses what is in them.
set -u
cd "$(dirname "$0")/.." || exit 2
. ci/lib.sh
out=$PWD/build/deb
root=$out/root
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)

build() { # -d: cargo and rustc need not be Debian's own, which may be too old
    packaging/deb.sh -S -d
    cd "$out"
    rm -rf "$out"/tine-*/
    dpkg-source --extract tine_*.dsc
    cd tine-*/
    # A namespace without a network.
    unshare --net --map-root-user dpkg-buildpackage --no-sign -d -b
}
# The one thing it may miss is a number of Debian's: that of the wish for the package.
reads() { lintian --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$out"/tine_*.dsc "$out"/tine_*_*.changes; }
unpack() { for package in "$out"/*.deb; do dpkg-deb -x "$package" "$root"; done; }
packages() {
    local name
    for name in libtine0.1 libtine-dev libtine-doc tine golang-tine-dev python3-libtine; do ls "$out/${name}"_0*.deb; done
    dpkg-deb -f "$out"/python3-libtine_0*.deb Depends | grep -q 'libtine0.1'
}
compiles() {
    export PKG_CONFIG_PATH=$root/usr/lib/$multiarch/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
    # shellcheck disable=SC2046  # a list of words
    cc examples-c/hello.c -o "$out/hello" $(pkg-config --cflags --libs tine)
    LD_LIBRARY_PATH=$root/usr/lib/$multiarch "$out/hello"
}
finds_worker() {
    cat >"$out/worker.c" <<'END'
#include <stdio.h>
#include <tine.h>
int main(void) { return printf("%s\n", tine_worker_path() ? tine_worker_path() : "none") < 0; }
END
    cc "$out/worker.c" -o "$out/worker" -I"$root/usr/include" -L"$root/usr/lib/$multiarch" -ltine
    [ "$(LD_LIBRARY_PATH=$root/usr/lib/$multiarch "$out/worker")" = "$root/usr/lib/$multiarch/tine0.1/tine-worker" ]
}
python() {
    LD_LIBRARY_PATH=$root/usr/lib/$multiarch PYTHONPATH=$root/usr/lib/python3/dist-packages /usr/bin/python3 -c '
import libtine
with libtine.ProcessPoolExecutor(2) as executor:
    assert list(executor.map(abs, [-1, -2])) == [1, 2]'
}
manual() { man --local-file "$root/usr/share/man/man3/tine_submit.3.gz" | grep -q tine_submit; }

for tool in dpkg-buildpackage lintian dh; do
    there "Debian's packages: there is no $tool" command -v $tool || { counted; exit; }
done
try "the packages are built without the network" build
try "lintian has nothing to say" reads
try "each package is there" packages
try "they unpack" unpack
try "a program is compiled and runs" compiles
try "the library finds its worker" finds_worker
try "Python runs tasks" python
try "the manual can be read" manual
counted
