#!/bin/bash
# The HTML book: its search knows a call and a guide, no page points to one that isn't there, and none to anywhere else.
set -u
cd "$(dirname "$0")/.." || exit 2
make --silent book || exit 1
book=build/book/html
bad=0
for word in tine_submit tine_pool_options forkserver; do
    grep -ql "$word" $book/searchindex*.js || { echo "the search knows no $word"; bad=1; }
done
[ "$(find $book -name '*.html' | wc -l)" -gt 40 ] || { echo "few pages"; bad=1; }
while IFS=: read -r page link; do
    target=${link#href=\"} target=${target%%\"*} target=${target%%#*}
    case $target in
        "" | http*) continue ;;
    esac
    [ -e "$(dirname "$page")/$target" ] || { echo "$page points to $target"; bad=1; }
done < <(grep -oE 'href="[^"]*"' -r $book --include='*.html' | sort -u)
if grep -rlE '<(script|link|img)[^>]*(src|href)="(https?:)?//' $book --include='*.html'; then
    echo "these pages need another machine"
    bad=1
fi
exit $bad
