#!/bin/sh
# Builds the book of docs/ into target/book. mdBook reads one folder only, so links to files outside of docs/ become links to the
# repository. Pages then read the same on GitHub and in the book.
set -eu
cd "$(dirname "$0")/.."

scripts/cargo-tool.sh mdbook 0.5.4 --no-default-features --features search
repository=$(sed -n 's/^git-repository-url = "\(.*\)"/\1/p' book.toml)
rm -rf target/book target/book-source
mkdir -p target
cp -R docs target/book-source
cd target/book-source
sed -i "s#](\.\./#]($repository/blob/main/#g" ./*.md
sed -i "s#](\.\./\.\./#]($repository/blob/main/#g" ./*/*.md
# mdBook names the page of a README.md index.html, but not in links to it.
find . -name '*.md' ! -name SUMMARY.md -exec sed -i -E 's#\]\(([a-z./]*)README\.md#](\1index.md#g' {} +
cd ../..
target/tools/mdbook build
