#!/bin/bash
# Installs as a packager would, below a DESTDIR, and as a user would, below a prefix of one's own, and looks at what is there.
set -u
cd "$(dirname "$0")/.." || exit 2
dest=$PWD/build/dest
release=${CARGO_TARGET_DIR:-target}/release
prefix=/opt/tine
. ci/lib.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
IFS=. read -r major minor _ <<<"$version"
soname=libtine.so.$major
[ "$major" != 0 ] || soname=$soname.$minor # before 1.0 a minor version may break the ABI
shared=libtine.so.$version

# Whatever the umask, everybody can read it; and without cargo, which root may not have.
install_it() { (umask 077 && make --silent install CARGO=false RUSTC=false PREFIX=$prefix DESTDIR="$dest"); }

layout() {
    (cd "$dest$prefix" && find . ! -type d -printf '%m %P %l\n' | sed 's/ $//' | LC_ALL=C sort -k 2) >build/installed.txt
    {
        (cd bindings/cpp && ls tine/*.hpp) | sed 's|^|644 include/|'
        (cd docs && ls ./*.md ./*.svg design/*.md) | sed 's|^\(\./\)*|644 share/doc/tine/|'
        (cd bindings/go && ls ./*.go ./*.[ch] go.mod | grep -v _test.go) | sed 's|^\(\./\)*|644 share/tine/go/|'
        (cd build/man && ls man1/*.1 man3/*.3 man7/*.7) | sed 's|^|644 share/man/|'
        [ ! -d build/book/html ] || (cd build/book/html && find . -type f) | sed 's|^\.|644 share/doc/tine/html|'
        for place in doc/tine tine/go; do printf '644 share/%s/%s\n' $place LICENSE-APACHE $place LICENSE-MIT; done
        echo "777 lib/$soname $shared"
        cat <<END
755 bin/tine
644 include/tine-ffi.h
644 include/tine.h
644 include/tine.hpp
644 lib/cmake/tine/tine-config-version.cmake
644 lib/cmake/tine/tine-config.cmake
644 lib/libtine.a
777 lib/libtine.so $soname
755 lib/$shared
644 lib/pkgconfig/tine.pc
755 libexec/tine-worker
644 share/doc/tine/CHANGELOG.md
644 share/doc/tine/README.md
644 share/tine/made.txt
644 share/tine/tine-mpi.c
644 share/tine/tine.supp
644 share/tine/tine.tsan
END
    } | LC_ALL=C sort -k 2 | diff - build/installed.txt
    [ -z "$(find "$dest" -type d ! -perm 755)" ]
}

library() {
    [ "$(readelf -d "$dest$prefix/lib/libtine.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')" = "$soname" ]
    readelf -d "$dest$prefix/lib/libtine.so" | grep -q 'Flags:.*NODELETE'
}

# No path of the machine that has built it.
paths() {
    local path
    for path in "$PWD" "${CARGO_HOME:-$HOME/.cargo}"; do
        if grep -aqF "$path/" "$dest$prefix/lib/libtine.so"; then
            echo "libtine.so has $path in it"
            return 1
        fi
    done
}

# What tine.pc says holds where the package will be in the end, and where it is moved to.
package() {
    export PKG_CONFIG_PATH=$dest$prefix/lib/pkgconfig
    local flags
    flags() { pkg-config "$@" --cflags --libs tine | tr -s ' ' | sed 's/ $//'; }
    [ "$(pkg-config --modversion tine)" = "$version" ]
    [ "$(flags)" = "-I$prefix/include -L$prefix/lib -ltine" ]
    [ "$(flags --static)" = "$(flags)" ]
    [ "$(flags --define-variable=prefix=/elsewhere)" = "-I/elsewhere/include -L/elsewhere/lib -ltine" ]
    [ "$(pkg-config --variable=worker tine)" = $prefix/libexec/tine-worker ]
    ! grep -rq "$dest" "$PKG_CONFIG_PATH"
}

# The worker finds its library wherever the whole is moved to, and says what it is for.
worker() {
    local status=0
    "$dest$prefix/libexec/tine-worker" 2>build/worker.txt || status=$?
    [ $status = 2 ]
    grep -q 'worker_path' build/worker.txt
}

# It is linked to the very library that is installed, whatever other one the flags find first, and in a place with any name that is taken.
other_library() {
    local where=$PWD/build/other
    rm -rf "$where"
    mkdir -p "$where/lib"
    echo 'int nothing;' >"$where/nothing.c"
    "${CC:-cc}" -shared "$where/nothing.c" -o "$where/lib/libtine.so"
    make --silent install CARGO=false PREFIX="$where/a,b" LDFLAGS="-L$where/lib"
    exits 2 "$where/a,b/libexec/tine-worker" 2>build/worker.txt
    grep -q 'worker_path' build/worker.txt
}

# A prefix that is a link, and headers beside it: CMake takes `..` for the name's parent.
linked_prefix() {
    local where=$PWD/build/linked includes
    rm -rf "$where"
    mkdir -p "$where/far/away/prefix"
    ln -s far/away/prefix "$where/prefix"
    make --silent install CARGO=false PREFIX="$where/prefix" INCLUDEDIR="$where/headers"
    includes=$(sed -n 's|.*_tine_libdir}/\(.*headers\)".*|\1|p' "$where/prefix/lib/cmake/tine/tine-config.cmake")
    [ "$(realpath -ms "$where/prefix/lib/$includes")" = "$where/headers" ]
    exits 2 "$where/prefix/libexec/tine-worker" 2>build/worker.txt
    make --silent uninstall PREFIX="$where/prefix" INCLUDEDIR="$where/headers"
    [ -z "$(find "$where" ! -type d ! -path "$where/prefix")" ]
}

# As for a target whose programs are all linked statically: the archive alone, and no cargo.
static_target() {
    local where=$PWD/build/static
    rm -rf "$where"
    mkdir -p "$where/release"
    cp -p "$release/libtine.a" "$release/tine" "$where/release"
    make --silent install CARGO=false RELEASE="$where/release" PREFIX="$where/prefix" 2>build/static.txt
    [ ! -e "$where/prefix/lib/libtine.so" ]
    exits 2 "$where/prefix/libexec/tine-worker" 2>build/worker.txt
}

# CMake, with each way to name the version that it may have; the target without a shared library is the archive.
cmake_project() { # cmake_project PREFIX VERSION
    local where=$PWD/build/cmake
    rm -rf "$where"
    mkdir -p "$where"
    sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >"$where/hello.c"
    printf '%s\n' 'cmake_minimum_required(VERSION 3.19)' 'project(hello C)' "find_package(tine $2 REQUIRED)" 'add_executable(hello hello.c)' \
        'target_link_libraries(hello tine::tine)' >"$where/CMakeLists.txt"
    CMAKE_PREFIX_PATH=$1 cmake -S "$where" -B "$where/build" >"$where/log.txt" 2>&1 && cmake --build "$where/build" >>"$where/log.txt" 2>&1
}
cmake_finds() {
    local range
    for range in "$major.$minor" 0.0...9 "$version...9" "0.0...$version"; do
        cmake_project "$dest$prefix" "$range" || { echo "find_package(tine $range)"; tail build/cmake/log.txt; return 1; }
    done
    for range in 9.0 "0.0...<$version" 9...10; do
        ! cmake_project "$dest$prefix" "$range" || { echo "find_package(tine $range) is taken"; return 1; }
    done
    cmake_project "$PWD/build/static/prefix" "$version" || { tail build/cmake/log.txt; return 1; }
    build/cmake/build/hello | grep -q 'hello, world'
}

# What can't be a path in all of the files that name it is refused, and nothing is written.
refused() {
    local setting
    rm -rf build/refused
    for setting in 'PREFIX=/a&b' PREFIX=relative 'PREFIX=/a b' 'PREFIX=/a|b' "PREFIX=$PWD/build/refused LIBDIR=lib" \
        "PREFIX=$PWD/build/refused DESTDIR=relative"; do
        case $setting in *' '[A-Z]*) set -- ${setting% *} ${setting#* } ;; *) set -- "$setting" ;; esac
        if make --silent install CARGO=false DESTDIR="$PWD/build/refused" "$@" 2>build/refusal.txt; then
            echo "taken: $setting"
            return 1
        fi
        grep -q "^make install: [A-Z]* is \"" build/refusal.txt
        [ ! -e build/refused ]
    done
}

# Somebody else's files stay, and the directories that they are in.
uninstalled() {
    local other=$dest$prefix/include/tine/other.hpp
    echo "not tine's" >"$other"
    # What was made for it need not be there any more.
    rm -rf build/away
    mkdir build/away
    mv build/man build/away
    make --silent uninstall PREFIX=$prefix DESTDIR="$dest"
    mv build/away/* build
    [ "$(find "$dest" ! -type d)" = "$other" ]
    rm "$other"
    make --silent uninstall PREFIX=$prefix DESTDIR="$dest"
    [ -z "$(find "$dest" -name '*tine*' ! -path "$dest/opt/tine")" ]
}

# What was made goes by the list that was installed: with the book, where a later install has none, and nothing that the list must not name.
made() {
    local own=$PWD/build/made book=build/book
    local list=$own$prefix/share/tine/made.txt pages=$own$prefix/share/doc/tine/html
    rm -rf "$own" build/away
    mkdir build/away
    [ ! -d $book ] || mv $book build/away
    mkdir -p $book/html/deep
    echo page >$book/html/deep/page.html
    make --silent install CARGO=false PREFIX=$prefix DESTDIR="$own"
    [ -e "$pages/deep/page.html" ]
    rm -rf $book
    make --silent install CARGO=false PREFIX=$prefix DESTDIR="$own"
    [ ! -e "$pages" ]
    mkdir -p $book/html
    echo page >$book/html/index.html
    make --silent install CARGO=false PREFIX=$prefix DESTDIR="$own"
    rm -rf $book
    mv build/away/* build 2>/dev/null || true
    echo "not tine's" >"$own/other"
    printf '%s\n' /other ../../../other '' man/man3/tine/../../../../../../other doc/tine/html/../../../../../../other \
        "$own/other" man/man3/other doc/tine/html/.. >>"$list"
    make --silent uninstall PREFIX=$prefix DESTDIR="$own"
    [ "$(find "$own" ! -type d)" = "$own/other" ]
    [ ! -e "$pages" ]
}

# The README's first program, by the very lines that stand there, for a user with a prefix of his own.
as_typed() {
    local own=$PWD/build/own
    rm -rf "$own"
    mkdir -p "$own"
    sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >"$own/hello.c"
    {
        echo "cd '$PWD'"
        sed -n '/^    make install PREFIX=\$HOME/,/^$/p' README.md
        echo 'cd'
        grep '^    cc hello\.c ' README.md
    } >"$own/lines.sh"
    [ "$(grep -c '^ ' "$own/lines.sh")" = 4 ]
    env -u PKG_CONFIG_PATH -u LD_LIBRARY_PATH HOME="$own" CARGO=false sh -eu "$own/lines.sh" >"$own/out.txt"
    [ "$(grep -c '^process [0-9]* was told: hello, world, from process [0-9]*$' "$own/out.txt")" = 2 ]
    "${CC:-cc}" -static -I"$own/.local/include" "$own/hello.c" "$own/.local/lib/libtine.a" -o "$own/static"
    "$own/static" | grep -q 'hello, world'
    # shellcheck disable=SC2046  # a list of words
    ! readelf -d "$own/static" | grep NEEDED
}

# What else names the version, or the soname's part of it. The library has it from Cargo.toml, and these have it by hand.
versions() {
    local wrong=0 file
    says() { # says WANTED FILE SCRIPT: what sed prints of the file, all of it
        local found
        found=$(sed -nE "$3" "$2" | sort -u)
        [ "$found" = "$1" ] || { echo "$2 says \"$found\", not \"$1\""; wrong=1; }
    }
    for file in cli/Cargo.toml bindings/python/pyproject.toml; do
        says "$version" $file 's/^version = "(.*)"$/\1/p'
    done
    says "$version" bindings/python/src/libtine/__init__.py 's/^__version__ = "(.*)"$/\1/p'
    says "$version" include/tine.h 's/^#define TINE_VERSION "(.*)"$/\1/p'
    says "$version" docs/inspect.md 's/^ .* tine ([0-9.]+)$/\1/p'
    says "$version" docs/top.svg 's/.* tine ([0-9.]+)<.*/\1/p'
    says "$version" CHANGELOG.md '/^## /{s/^## ([0-9.]+).*/\1/p;q}'
    says "$version" packaging/debian/changelog '1s/^tine \(([0-9.]+)-.*/\1/p'
    says "$major.$minor" docs/cpp.md 's/.*find_package\(tine ([0-9.]+) .*/\1/p'
    says "${soname#libtine.so.}" packaging/debian/control 's/^Package: libtine([0-9.]+)$/\1/p'
    for file in docs/ffi.md bindings/ffi/squares.*; do
        says "$soname" "$file" 's/.*(libtine\.so(\.[0-9]+)*).*/\1/p'
    done
    return $wrong
}

make --silent all
rm -rf "$dest"
try versions versions
try install install_it
try layout layout
try library library
try paths paths
try package package
try worker worker
try other-library other_library
try linked-prefix linked_prefix
try static-target static_target
there "find_package in CMake: there is no cmake" cmake --version && try cmake cmake_finds
try refused refused
try made made
try as-typed as_typed
try uninstall uninstalled
counted
