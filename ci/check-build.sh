#!/bin/bash
# Builds the library twice, in two directories, as packagers do who want link-time optimisation and name the target: both must be
# the same to the byte, and programs with that optimisation link, to either library. `check-build.sh long` optimises as a release
# is; otherwise the compiler takes less time.
set -u
cd "$(dirname "$0")/.." || exit 2
out=$PWD/build/twice
target=$(rustc -vV | sed -n 's/^host: //p')
# A target directory in the environment would be one for both; so would flags be that a config gives.
unset CARGO_TARGET_DIR
if [ "${1-}" = long ]; then
    profile=(CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1)
else
    profile=(CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16)
fi
. ci/lib.sh

build() { # build DIRECTORY: a copy of the tree, without what has been built
    mkdir -p "$out/$1"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$out/$1"
    env "${profile[@]}" CARGO_INCREMENTAL=0 CFLAGS='-O2 -flto=auto' CARGO_BUILD_TARGET="$target" \
        make --silent -C "$out/$1" install PREFIX="$out/prefix-$1"
}

same() { cmp "$out/prefix-one/lib/libtine.so" "$out/prefix-another/lib/libtine.so"; }

links() { # links NAME LIBRARY...: a program that calls the function which C has defined
    local name=$1
    shift
    ${CC:-cc} -O2 -flto=auto -I"$out/prefix-one/include" "$out/fails.c" -o "$out/$name" "$@"
    "$out/$name"
}

rm -rf "$out"
mkdir -p "$out"
cat >"$out/fails.c" <<'END'
#include <errno.h>
#include <string.h>
#include <tine.h>

static int fails(tine_task *task) { return tine_fail(task, -EBADMSG, "%s %d", "number", 7); }

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = NULL;
    tine_id id;
    options.workers = 1;
    if (tine_init(argc, argv) || tine_pool_create(&options, &pool)) return 2;
    if (tine_submit(pool, fails, NULL, 0, NULL, &id) || tine_wait(pool, id, TINE_FOREVER, &result)) return 3;
    int right = result.status == -EBADMSG && result.message && strcmp(result.message, "number 7") == 0;
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    return !right;
}
END
try one build one
try another build another
try same same
try shared links shared -L"$out/prefix-one/lib" -ltine -Wl,-rpath,"$out/prefix-one/lib"
try static links static "$out/prefix-one/lib/libtine.a"
# A Rust program with an allocator of its own takes the crate without its allocator.
own_allocator() {
    local where=$out/own-allocator
    mkdir -p "$where/src"
    cp Cargo.lock "$where"
    printf '%s\n' '[package]' 'name = "own-allocator"' 'edition = "2024"' '[dependencies]' \
        "tine = { path = \"$PWD\", default-features = false }" '[workspace]' >"$where/Cargo.toml"
    cat >"$where/src/main.rs" <<'END'
#[global_allocator]
static OWN: std::alloc::System = std::alloc::System;
fn main() {
    tine::init().unwrap();
}
END
    cargo check --quiet --offline --manifest-path "$where/Cargo.toml" --target-dir "$out/target-own"
}
# As a C library by cargo-c, without this Makefile.
by_cargo_c() {
    cargo cinstall --release --prefix=/usr --libdir=/usr/lib --destdir="$out/cargo-c" --target-dir "$out/target-c"
    [ "$(readlink "$out/cargo-c/usr/lib/$soname")" = "libtine.so.$version" ]
    [ "$(readelf -d "$out/cargo-c/usr/lib/libtine.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')" = "$soname" ]
    for header in tine.h tine-ffi.h tine.hpp tine/pool.hpp; do [ -e "$out/cargo-c/usr/include/$header" ]; done
    # shellcheck disable=SC2046  # a list of words
    ${CC:-cc} "$out/fails.c" -o "$out/by-cargo-c" $(PKG_CONFIG_SYSROOT_DIR=$out/cargo-c PKG_CONFIG_PATH=$out/cargo-c/usr/lib/pkgconfig \
        pkg-config --cflags --libs tine)
    LD_LIBRARY_PATH=$out/cargo-c/usr/lib "$out/by-cargo-c"
}
try own-allocator own_allocator
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
soname=$(readelf -d "$out/prefix-one/lib/libtine.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
if [ "${1-}" = long ] && there "cargo-c: cargo install cargo-c brings it" sh -c 'cargo cinstall --version | grep -q "cargo-c 0\.1[0-9]"'; then
    try "cargo-c installs" by_cargo_c
fi
counted
