#!/bin/bash
# The installed tine.h must compile alone, be includable twice, and have initialisers that initialise: under every
# standard that a user may have, with both compilers, and with no warning.
set -u
mkdir -p build/header
dir=build/header
header=build/prefix/include/tine.h

echo '#include <tine.h>
extern int alone; int alone;' >$dir/alone.c
echo '#include <tine.h>
#include <tine.h>
extern int twice; int twice;' >$dir/twice.c
# Every TINE_<NAME>_INIT, for a static object and for an automatic one; -Wextra sees a field that it leaves out.
{
    echo '#include <tine.h>'
    for macro in $(sed -n 's/^#define \(TINE_[A-Z_]*_INIT\)\b.*/\1/p' $header); do
        type=$(tr '[:upper:]' '[:lower:]' <<<"${macro%_INIT}")
        echo "extern $type static_$type; $type static_$type = $macro;"
        echo "int first_$type(void); int first_$type(void) { $type it = $macro; return *(const char *)&it; }"
    done
    echo 'extern int inits; int inits;'
} >$dir/inits.c

passed=0 failed=0
for compiler in gcc clang; do
    for standard in c99 c11 c17 c++11 c++14 c++17 c++20; do
        case $standard in c++*) language=c++ ;; *) language=c ;; esac
        for file in alone twice inits; do
            if $compiler -x $language -std=$standard -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
                -Ibuild/prefix/include $dir/$file.c; then
                passed=$((passed + 1))
            else
                echo "FAIL $compiler -std=$standard $dir/$file.c"
                failed=$((failed + 1))
            fi
        done
    done
done
# On a host of 32 bits the first thing that the compiler says is why not.
for compiler in gcc clang; do
    if $compiler -m32 -fsyntax-only -Ibuild/prefix/include $dir/alone.c 2>&1 | grep -m 1 'error:' |
        grep -q 'tine is for 64-bit Linux'; then
        passed=$((passed + 1))
    else
        echo "FAIL $compiler -m32 does not say that tine is for 64 bits"
        failed=$((failed + 1))
    fi
done
# A struct without an initialiser is one that users can't use right; but a barrier is none before tine_barrier_init.
for type in $(sed -n 's/^typedef struct \(tine_[a-z_]*\) {.*/\1/p' $header | grep -vx tine_barrier); do
    grep -q "^#define $(tr '[:lower:]' '[:upper:]' <<<"$type")_INIT\b" $header || {
        echo "FAIL $type has no initialiser"
        failed=$((failed + 1))
    }
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
