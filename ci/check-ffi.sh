#!/bin/bash
# tine without a binding: tine-ffi.h says the same as tine.h, and what parses C without a compiler takes it; and the programs of
# bindings/ffi, whose workers are in their own languages, run where the language is there.
set -u
cd "$(dirname "$0")/.." || exit 2
prefix=$PWD/build/prefix
out=$PWD/build/ffi
header=$prefix/include/tine-ffi.h
mkdir -p "$out"
. ci/lib.sh

# Declared once more, with the types of the one header and those of the other; and each field is where it is said to be.
same() {
    {
        printf '#include <stddef.h>\n#include <tine.h>\n'
        sed -e '/^enum {/,/^};/d' -e '/^typedef .*{/,/^}/d' -e '/^typedef/d' "$header"
        awk '/^typedef struct .*\{/ { struct = $3; next }
             /^}/ && struct { n = split($0, part, /[ ;*\/]+/); print "_Static_assert(sizeof(" struct ") == " part[n - 1] ", \"" struct "\");"; struct = ""; next }
             struct { at = $0; sub(/.*\/\* /, "", at); sub(/ \*\//, "", at); name = $0; sub(/;.*/, "", name)
                      if (match(name, /\(\*[a-z_]+\)/)) name = substr(name, RSTART + 2, RLENGTH - 3); sub(/\[.*/, "", name); sub(/.*[ *]/, "", name)
                      print "_Static_assert(offsetof(" struct ", " name ") == " at ", \"" struct "." name "\");" }' "$header"
    } >"$out/same.c"
    [ "$(grep -c _Static_assert "$out/same.c")" -gt 200 ]
    ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" "$out/same.c"
    sed -n 's/^    \(TINE_[A-Z_0-9]*\) = \(.*\),$/_Static_assert(\1 == \2, "\1");/p' "$header" |
        { echo '#include <tine.h>'; cat; } | ${CC:-cc} -std=c11 -x c -Werror -fsyntax-only -I"$prefix/include" -
    [ "$(grep -oE '\btine_[a-z0-9_]+\(' "$header" | tr -d '(' | LC_ALL=C sort -u)" = "$(cat ci/symbols.txt)" ]
}

# And where docs/ffi.md says that it is.
documented() {
    local struct rest
    sed -n 's/^| `\(tine_[a-z_]*\)` | \(.*\) |$/\1 \2/p' docs/ffi.md >"$out/documented.txt"
    [ "$(wc -l <"$out/documented.txt")" = 4 ]
    while read -r struct rest; do
        grep -oE '`[a-z_]+` [0-9]+' <<<"$rest" | tr -d '`' | while read -r field at; do
            sed -n "/^typedef struct $struct {/,/^}/p" "$header" | grep -qE "[ *]$field(\[[0-9]*\])?; /\* $at \*/" ||
                { echo "$struct.$field is not at $at"; exit 1; }
        done || return 1
    done <"$out/documented.txt"
}

# Nothing for a preprocessor, and no type that another header would have to bring.
plain() {
    # With -e, a command behind ! fails nothing by itself.
    ! grep -n '^ *#' "$header" || return 1
    ${CC:-cc} -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c "$header"
}
cffi() {
    "$1" - "$header" <<'END'
import sys
import cffi

parser = cffi.FFI()
parser.cdef(open(sys.argv[1]).read())
assert parser.sizeof("tine_result") > 0 and parser.typeof("tine_pool_options").fields
END
}

# What has a C compiler in it takes both headers: each function is declared, and each struct with its fields.
with_compiler() { # with_compiler NAME STRUCT COMMAND...: the declarations on standard output; STRUCT is what a struct with fields begins with
    local name=$1 struct=$2 here
    shift 2
    for here in "$header" "$prefix/include/tine.h"; do
        "$@" "$here" >"$out/$name"
        cp "$out/$name" "$out/$(basename "$here").$name"
        diff <(grep -oE '\bfn tine_[a-z0-9_]+' "$out/$name" | sed 's/^fn //' | LC_ALL=C sort -u) ci/symbols.txt
        diff <(sed -n 's/^typedef struct \(tine_[a-z_]*\) {$/\1/p' "$header" | LC_ALL=C sort) \
            <(sed -n "s/^$struct.*/\\1/p" "$out/$name" | LC_ALL=C sort)
    done
}
# Of those without fields bindgen makes structs, too. What it believes of sizes and offsets is in its output, and checked as that is compiled.
bindgens() { bindgen "$1" | sed -z 's/\(pub struct tine_[a-z_]*\) {\n    _unused/\1 of no fields {\n    _unused/g'; }
compiled() {
    local here
    for here in tine-ffi.h tine.h; do
        sed 's/ of no fields / /' "$out/$here.bindgen.rs" >"$out/compiled.rs"
        ${RUSTC:-rustc} --edition 2021 --crate-type lib --emit metadata -A warnings -o "$out/compiled.rmeta" "$out/compiled.rs"
    done
}

squares() { # squares FILE COMMAND...
    local file=$1
    shift
    [ "$(LD_LIBRARY_PATH=$prefix/lib TINE_FFI_H=$header timeout -k 5 120 "$@" "bindings/ffi/$file")" = "1 4 9 16 TINE_EDIED" ]
}

try same same
try documented documented
try plain plain
for python in python3 /usr/bin/python3; do
    if there "tine-ffi.h in cffi, by $python" $python -c 'import cffi'; then try cffi cffi $python && break; fi
done
if there "the headers in bindgen" bindgen --version; then
    try bindgen with_compiler bindgen.rs 'pub struct \(tine_[a-z_]*\) {' bindgens
    try "what bindgen has made" compiled
fi
if there "the headers in zig translate-c" zig version; then
    try zig with_compiler translated.zig 'pub const struct_\(tine_[a-z_]*\) = extern struct {' zig translate-c -lc
fi
if there "Python by ctypes" python3 --version; then try python squares squares.py python3; fi
if there "LuaJIT" luajit -v; then try luajit squares squares.lua luajit; fi
if there "Ruby by fiddle" ruby -rfiddle -e 0; then try ruby squares squares.rb ruby; fi
if there "Perl by FFI::Platypus" perl -MFFI::Platypus -e 0; then try perl squares squares.pl perl; fi
if command -v npm >/dev/null && [ ! -e "$out/node_modules/koffi" ]; then
    echo '{}' >"$out/package.json"
    (cd "$out" && timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts koffi@3 >npm.log 2>&1)
fi
export NODE_PATH=$out/node_modules
if there "JavaScript by Node's koffi" node -e 'require("koffi")'; then try node squares squares.js node; fi
counted
