#!/bin/bash
# The manual pages: one for each call and each type, which mandoc has nothing to say against, and which man finds.
set -u
cd "$(dirname "$0")/.." || exit 2
man=$PWD/build/prefix/share/man
. ci/lib.sh

formatted() { rustfmt --edition 2024 --check packaging/reference.rs; }

all() { # every call and every type with a comment
    {
        cat ci/symbols.txt
        sed -n 's/^typedef struct \(tine_[a-z_]*\) {$/\1/p' build/prefix/include/tine.h
    } | sort -u >build/wanted.txt
    [ -z "$(find "$man/man3" -name '*.3' -printf '%f\n' | sed 's/\.3$//' | sort | comm -13 - build/wanted.txt | tee /dev/stderr)" ]
}

# Where another page is, mandoc looks in the system's folders; here it is looked for in ours.
lint() {
    [ -z "$(mandoc -Tlint -W all "$man"/man1/tine.1 "$man"/man3/*.3 "$man/man7/tine.7" | grep -v 'referenced manual not found' | tee /dev/stderr)" ]
    sed -n 's/^\.It Xr \([a-z_]*\) \([37]\).*/\1 \2/p; s/^\.Xr \([a-z_]*\) \([37]\).*/\1 \2/p' "$man"/man?/* | sort -u >build/named.txt
    [ "$(wc -l <build/named.txt)" -gt 150 ]
    while read -r name section; do [ -e "$man/man$section/$name.$section" ]; done <build/named.txt
}

# What stands in the comments stands on the page.
submit() {
    mandoc -Tascii "$man/man3/tine_submit.3" | sed 's/.\x08//g' | tr -s ' \n' ' ' >build/page.txt
    local text
    for text in 'NAME tine_submit - submits one call of a function to a pool' '#include <tine.h>' \
        'tine_submit(tine_pool *pool, tine_fn fn, const void *input, size_t length, const tine_submit_options *options, tine_id *out);' \
        'RETURN VALUES 0; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full' 'THREADS Any.' 'SEE ALSO tine_fn(3)'; do
        grep -qF -- "$text" build/page.txt || { echo "not there: $text"; return 1; }
    done
}

try formatted formatted
try all all
try lint lint
try submit submit
counted
