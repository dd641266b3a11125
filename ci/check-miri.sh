#!/bin/sh
# The structs of the ABI under Miri: each of every size from none to twice its own is read and written within its bytes, and without undefined
# behaviour of another kind. Miri comes with a nightly toolchain (rustup component add miri --toolchain nightly); what is not there is named.
set -u
cd "$(dirname "$0")/.." || exit 2
cargo +nightly miri --version >/dev/null 2>&1 || { echo "| not tested: the structs under Miri, which a nightly toolchain has"; exit 0; }
# It can map no memory, so what needs a fence of pages stays out.
exec cargo +nightly miri test --quiet --target-dir build/miri --lib options_of_every_size
