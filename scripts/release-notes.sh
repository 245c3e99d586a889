#!/bin/sh
# Prints the notes of a release: its part of the changelog, and how to upgrade and verify: release-notes.sh TAG
set -eu
[ $# = 1 ] || { echo "release-notes.sh: TAG" >&2; exit 2; }
cd "$(dirname "$0")/.."
. scripts/common.sh

tag=$1
version=${1#v}
repository=https://github.com/firstword/firstword/blob/$tag
# $1: file, $2: a heading of the second level. Prints what is below it. Links to files get the address of the tag.
section() {
    found=$(awk -v heading="$2" 'index($0, heading) == 1 { inside = 1; next } inside && /^## / { exit } inside' "$1" | sed '/./,$!d')
    [ -n "$found" ] || fail "$1 has nothing below '$2'"
    folder=$repository/
    case $1 in docs/*) folder=$repository/docs/ ;; esac
    echo "$found" | sed "s|](\.\./\([^):]*\))|]($repository/\1)|g; s|](\([A-Za-z][^):]*\))|]($folder\1)|g"
}
section CHANGELOG.md "## [$version] - "
printf '\n### Upgrade\n\n'
section docs/upgrade.md "## To $version"
printf '\n[How to upgrade](%s/docs/upgrade.md), and how to [verify this release](%s/docs/verify-release.md).\n' "$repository" "$repository"
