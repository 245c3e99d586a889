#!/bin/sh
# Prints the commit of this source tree, for the metric build_info: 12 digits, followed by -dirty where a tracked file
# differs from it; `unknown` where the tree is no repository's, as in a source archive.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

# Not the commit of a repository that this directory merely lies in.
[ -e .git ] || {
    echo unknown
    exit
}
{ commit=$(git rev-parse --verify HEAD) && changes=$(git status --porcelain --untracked-files=no); } || {
    say "git does not tell the commit" >&2
    echo unknown
    exit
}
# Cut here: git's own abbreviations are longer where a repository holds more.
echo "$(echo "$commit" | cut -c1-12)${changes:+-dirty}"
