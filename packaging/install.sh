#!/bin/sh
# install.sh install|uninstall: what `make install` puts where, and what `make uninstall` takes away again: one list for both.
# The Makefile gives it PREFIX, BINDIR, LIBDIR, INCLUDEDIR, LIBEXECDIR, DATADIR, DESTDIR, RELEASE, VERSION, SONAME, SHARED and CC.
# It runs from the repository's root, and needs neither cargo nor the right to write here.
set -eu
umask 022

refuse() { echo "make $action: $1" >&2; exit 2; }
action=$1
for name in PREFIX BINDIR LIBDIR INCLUDEDIR LIBEXECDIR DATADIR; do
    eval "value=\$$name"
    case $value in
        /*) ;;
        *) refuse "$name is \"$value\"; it must be an absolute path" ;;
    esac
    # What pkg-config, CMake, sed or make would not take as a part of a path.
    case $value in
        *[!A-Za-z0-9/._+@%=,:~-]*) refuse "$name is \"$value\"; it may have letters, digits and / . _ + @ % = , : ~ - in it" ;;
    esac
done
case $DESTDIR in
    "" | /*) ;;
    *) refuse "DESTDIR is \"$DESTDIR\"; it must be an absolute path" ;;
esac

# Below the prefix it is named by the prefix, so that the whole can be moved: pkg-config --define-prefix.
below() { case $1 in "$PREFIX"/*) printf '${prefix}%s\n' "${1#"$PREFIX"}" ;; *) printf '%s\n' "$1" ;; esac; }
# CMake goes by the names of directories, the loader by what they are.
from() { realpath -ms --relative-to="$1" "$2"; }

folder() { # folder PATH: a directory that is tine's own
    if [ $action = install ]; then install -d -m 755 "$DESTDIR$1"; else folders="$1 $folders"; fi
}
gone() { rm -f "$DESTDIR$1"; }
put() { # put MODE FILE PATH
    if [ $action = install ]; then install -D -m "$1" "$2" "$DESTDIR$3"; else gone "$3"; fi
}
link() { # link TO PATH
    if [ $action = install ]; then ln -sfn "$1" "$DESTDIR$2"; else gone "$2"; fi
}
fill() { # fill TEMPLATE PATH: with the names of directories and versions in it
    [ $action = install ] || { gone "$2"; return; }
    install -d -m 755 "$DESTDIR$(dirname "$2")"
    sed -e "s|@PREFIX@|$PREFIX|" -e "s|@LIBDIR@|$(below "$LIBDIR")|" -e "s|@INCLUDEDIR@|$(below "$INCLUDEDIR")|" \
        -e "s|@LIBEXECDIR@|$(below "$LIBEXECDIR")|" -e "s|@VERSION@|$VERSION|" -e "s|@MAJOR_MINOR@|${VERSION%.*}|" \
        -e "s|@SHARED@|$SHARED|" -e "s|@SONAME@|$SONAME|" -e "s|@INCLUDES@|$(from "$LIBDIR" "$INCLUDEDIR")|" \
        -e "s|@PROGRAMS@|$(from "$LIBDIR" "$LIBEXECDIR")|" "$1" >"$DESTDIR$2"
    chmod 644 "$DESTDIR$2"
}
folders=
docs=$DATADIR/doc/tine
go=$DATADIR/tine/go

# A target whose programs are all linked statically, musl's, has no shared library; the worker is such a program there.
static='' library=$SHARED
if [ $action = install ] && [ ! -e "$RELEASE/libtine.so" ]; then
    static=-static library=libtine.a
    for file in "$SHARED" "$SONAME" libtine.so; do gone "$LIBDIR/$file"; done # an earlier one's, which a program would take
else
    put 755 "$RELEASE/libtine.so" "$LIBDIR/$SHARED"
    link "$SHARED" "$LIBDIR/$SONAME"
    link "$SONAME" "$LIBDIR/libtine.so"
fi
put 644 "$RELEASE/libtine.a" "$LIBDIR/libtine.a"
put 755 "$RELEASE/tine" "$BINDIR/tine"
put 644 include/tine.h "$INCLUDEDIR/tine.h"
put 644 include/tine-ffi.h "$INCLUDEDIR/tine-ffi.h"
put 644 bindings/cpp/tine.hpp "$INCLUDEDIR/tine.hpp"
folder "$INCLUDEDIR/tine"
for file in bindings/cpp/tine/*.hpp; do put 644 "$file" "$INCLUDEDIR/tine/${file##*/}"; done
fill tine.pc.in "$LIBDIR/pkgconfig/tine.pc"
folder "$LIBDIR/cmake/tine"
for file in tine-config tine-config-version; do fill $file.cmake.in "$LIBDIR/cmake/tine/$file.cmake"; done

folder "$docs"
for file in LICENSE-MIT LICENSE-APACHE README.md CHANGELOG.md docs/*.md docs/*.svg; do put 644 "$file" "$docs/${file##*/}"; done
folder "$docs/design"
for file in docs/design/*.md; do put 644 "$file" "$docs/design/${file##*/}"; done

# What is made, and need not be here any more when it is taken away: the manual pages, and the book, where it has been made. So a list of
# them is installed, by names below DATADIR: the whole may be moved. A line that names anything else is nobody's.
folder "$DATADIR/tine"
made=$DATADIR/tine/made.txt
pages() { # what is made now
    (cd build && find man/man? -name 'tine*')
    [ ! -d build/book/html ] || (cd build/book && find html -type f) | sed 's|^|doc/tine/|'
}
listed() {
    [ ! -e "$DESTDIR$made" ] || grep -E '^(man/man[0-9]/tine[^/]*|doc/tine/html/.+)$' "$DESTDIR$made" | grep -vE '(^|/)\.\.(/|$)' || true
}
# Also before others take their place: what this version has no more.
listed | while IFS= read -r file; do gone "$DATADIR/$file"; done
if [ $action = install ]; then
    pages | LC_ALL=C sort >"$DESTDIR$made"
    chmod 644 "$DESTDIR$made"
    while IFS= read -r file; do
        case $file in doc/tine/*) source=build/book/${file#doc/tine/} ;; *) source=build/$file ;; esac
        put 644 "$source" "$DATADIR/$file"
    done <"$DESTDIR$made"
else
    gone "$made"
fi
[ ! -d "$DESTDIR$docs/html" ] || find "$DESTDIR$docs/html" -depth -type d -empty -delete

# The Go package, for a line `replace tine.example/tine => PREFIX/share/tine/go` in a program's go.mod.
for file in tine.tsan tine.supp; do put 644 packaging/$file "$DATADIR/tine/$file"; done
# Who wants it compiles it with the mpicc of the cluster.
put 644 mpi/tine-mpi.c "$DATADIR/tine/tine-mpi.c"
folder "$go"
for file in bindings/go/*.go bindings/go/*.[ch] bindings/go/go.mod LICENSE-MIT LICENSE-APACHE; do
    case $file in *_test.go) continue ;; esac
    put 644 "$file" "$go/${file##*/}"
done

# A relative run path, so that the worker finds the very library that it was installed with, wherever it is moved to.
if [ $action = install ]; then
    install -d -m 755 "$DESTDIR$LIBEXECDIR"
    # shellcheck disable=SC2086  # lists of flags
    $CC -std=c11 $static ${CFLAGS-} -Wall -Wextra -Iinclude src/worker/tine-worker.c -o "$DESTDIR$LIBEXECDIR/tine-worker" ${LDFLAGS-} \
        "$DESTDIR$LIBDIR/$library" -Xlinker -rpath -Xlinker "\$ORIGIN/$(realpath -m --relative-to="$LIBEXECDIR" "$LIBDIR")"
    chmod 755 "$DESTDIR$LIBEXECDIR/tine-worker"
else
    gone "$LIBEXECDIR/tine-worker"
    # Deepest first; one with somebody else's files in it stays.
    for folder in $folders; do
        [ ! -d "$DESTDIR$folder" ] || rmdir --ignore-fail-on-non-empty "$DESTDIR$folder"
    done
fi
# The loader's cache covers the system's prefixes only; a package's own scripts see to it where there is a DESTDIR.
case "$DESTDIR|$PREFIX" in "|/usr" | "|/usr/local") ldconfig || true ;; esac
