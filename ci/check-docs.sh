#!/bin/bash
# The lists of calls in the bindings' pages, and the programs in docs/*.md, which are the ```c and ```cpp blocks with a main: each is built
# against the installed package, without a warning, and must run and exit with 0. Their names are the page's and the line's. A first line
# /* prints: ... */ says what a program must print.
set -u
cd "$(dirname "$0")/.." || exit 2
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH:-$PWD/build/prefix/lib/pkgconfig}
# Where `tine` is installed.
PATH=$(pkg-config --variable=prefix tine)/bin:$PATH
out=build/docs
rm -rf $out
mkdir -p $out
passed=0 failed=0

# Each call of C is in a binding, or among those that the binding's page says it has no form for; and not in both.
for binding in "Go docs/go.md bindings/go" "C++ docs/cpp.md bindings/cpp"; do
    read -r language page sources <<<"$binding"
    awk -v title="## Calls of C without a form in $language" '/^## / { inside = $0 == title } inside' "$page" | grep -o '`tine_[a-z0-9_]*`' | tr -d '`' | sort >$out/listed.txt
    find "$sources" \( -name '*.hpp' -o -name '*.go' -o -name '*.[ch]' \) ! -name '*_test.go' ! -path '*/examples/*' ! -path '*/tests/*' \
        -exec grep -ohE '\btine_[a-z0-9_]+' {} + | sort -u >$out/called.txt
    if grep -o '^tine_[a-z0-9_]*' ci/symbols.txt | sort | grep -vxFf $out/called.txt | diff $out/listed.txt - >$out/calls.txt; then
        echo "ok    calls of $page"
        passed=$((passed + 1))
    else
        echo "FAIL  $page: < are listed and have a form, are listed twice or are no calls; > have no form and are not listed"
        cat $out/calls.txt
        failed=$((failed + 1))
    fi
done

for page in docs/*.md; do
    name=$(basename "$page" .md)
    # A block's file begins with as many empty lines as the page has before it, so that the compiler's line is the page's.
    awk -v stem="$out/$name" '
        /^```c(pp)?$/ { inside = substr($0, 4); text = ""; start = NR; for (i = 0; i < NR; i++) text = text "\n"; next }
        /^```/ && inside { if (text ~ /int main\(/) printf "%s", text >(stem "-" start "." inside); inside = ""; next }
        inside { text = text $0 "\n" }' "$page"
done

libs="$(pkg-config --cflags --libs tine) -pthread -Wl,-rpath,$(pkg-config --variable=libdir tine)" || exit 2
compile() { # compile SOURCE PROGRAM
    case $1 in
        # shellcheck disable=SC2086  # lists of words
        *.cpp) ${CXX:-g++} -std=c++17 -O1 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror "$1" -o "$2" $libs ;;
        # shellcheck disable=SC2086
        *) ${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror "$1" -o "$2" $libs ;;
    esac
}

for source in "$out"/*.c "$out"/*.cpp; do
    [ -e "$source" ] || { echo "no program in docs/*.md: 0 passed, 1 failed"; exit 1; }
    program=${source%.*}
    wanted=$(sed -n 's|^/\* prints: \(.*\) \*/$|\1|p' "$source" | head -n 1)
    if compile "$source" "$program" &&
        (cd $out && timeout -k 5 60 "./$(basename "$program")" </dev/null >"$(basename "$program").txt") &&
        { [ -z "$wanted" ] || [ "$(cat "$program.txt")" = "$wanted" ]; }; then
        echo "ok    $(basename "$program")"
        passed=$((passed + 1))
    else
        echo "FAIL  $(basename "$program")${wanted:+, which is to print \"$wanted\"}; it prints:"
        cat "$program.txt"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
