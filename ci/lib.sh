# shellcheck shell=bash
# What the checks share. A check names each thing that it tries, counts those, and ends with `counted`.
passed=0 failed=0

try() { # try NAME COMMAND...: in a shell of its own, which the first step that fails ends
    local name=$1
    shift
    # Not as a condition: there, -e has no effect, and a function would go on after a step that has failed.
    (set -eu; "$@")
    if [ $? = 0 ]; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
    fi
}

exits() { # exits STATUS COMMAND...: the command ends with this very status
    local wanted=$1 status=0
    shift
    "$@" || status=$?
    [ $status = "$wanted" ] || { echo "exit status $status, not $wanted: $*"; return 1; }
}

there() { # there NAME COMMAND...: what is not there is named, and counts as nothing
    local name=$1
    shift
    "$@" >/dev/null 2>&1 || { echo "| not tested: $name"; return 1; }
}

counted() { # the last line of a check, and its status
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}
