#!/bin/bash
# Every whole program in the documentation (a block of C that has a main) is compiled as a reader would compile it, against
# the installed package, and run. Its first line says what it prints: /* prints: ... */
set -u
cd "$(dirname "$0")/.." || exit 2
dir=build/docs
rm -rf $dir && mkdir -p $dir
awk -v dir=$dir '
    FNR == 1 { name = FILENAME; sub(/.*\//, "", name); sub(/\.md$/, "", name); number = 0; inside = 0 }
    /^```c$/ { inside = 1; text = ""; next }
    /^```$/ && inside {
        inside = 0
        if (text ~ /int main\(/) { number++; printf "%s", text > (dir "/" name "-" number ".c") }
        next
    }
    inside { text = text $0 "\n" }' docs/*.md
passed=0 failed=0
for source in "$dir"/*.c; do
    program=${source%.c}
    wanted=$(sed -n '1s|^/\* prints: \(.*\) \*/$|\1|p' "$source")
    # shellcheck disable=SC2046  # a list of words
    if [ -n "$wanted" ] &&
        "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror "$source" -o "$program" \
            $(pkg-config --cflags --libs tine) "-Wl,-rpath,$(pkg-config --variable=libdir tine)" &&
        timeout -k 5 60 "$program" >"$program.txt" </dev/null &&
        [ "$(cat "$program.txt")" = "$wanted" ]; then
        passed=$((passed + 1))
        echo "ok    $source"
    else
        failed=$((failed + 1))
        echo "FAIL  $source: it is to print \"$wanted\", and prints:"
        cat "$program.txt" 2>/dev/null
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -ge 4 ]
