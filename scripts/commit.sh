#!/bin/sh
# Prints the commit of this source tree, for the metric build_info: 12 digits, with -dirty if a tracked file differs from it.
# Prints `unknown` if the tree is not a repository, as in a source archive.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

# Not the commit of another repository around this directory.
[ -e .git ] || {
    echo unknown
    exit
}
{ commit=$(git rev-parse --verify HEAD) && changes=$(git status --porcelain --untracked-files=no); } || {
    say "git does not tell the commit" >&2
    echo unknown
    exit
}
# Cut here, because git abbreviates to more digits in large repositories.
echo "$(echo "$commit" | cut -c1-12)${changes:+-dirty}"
