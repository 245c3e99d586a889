#!/bin/sh
# Runs the commands of docs/verify-release.md as they stand there: verify.sh DIRECTORY REPOSITORY TAG KEY [SECTION]...
#
# DIRECTORY has the files of a release. Instead of the workflow, the owner of the public KEY must have signed. Everything
# between the headings "Before you begin" and "Build it yourself" runs, or only the sections with these headings.
set -eu
[ $# -ge 4 ] || { echo "verify.sh: DIRECTORY REPOSITORY TAG KEY [SECTION]..." >&2; exit 2; }
directory=$(cd "$1" && pwd -P)
repository=$2
tag=$3
key=$(realpath "$4")
shift 4
cd "$(dirname "$0")/.."
. scripts/common.sh
root=$(pwd -P)

# Sections with commands, except the two that need GitHub.
sections() {
    awk '/^## / { section = substr($0, 4) } /^```sh$/ && section !~ /^(Before you begin|Build it yourself)$/ { print section }' \
        docs/verify-release.md | uniq
}
commands() {
    awk -v wanted="$1" '/^## / { section = substr($0, 4) } /^```$/ { inside = 0 } inside && section == wanted { print }
        /^```sh$/ { inside = 1 }' docs/verify-release.md
}
if [ $# = 0 ]; then
    all=$(sections)
    IFS='
'
    # shellcheck disable=SC2086 # a list of lines
    set -- $all
    unset IFS
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for section in "$@"; do
    say "$section"
    {
        echo "tag='$tag' version='${tag#v}' image='$repository' charts='${repository%/*}/charts'"
        echo "release_signed() { cosign \"\$@\" --key '$key' --insecure-ignore-tlog; }"
        commands "$section"
    } >"$work/commands"
    [ "$(wc -l <"$work/commands")" -gt 2 ] || fail "docs/verify-release.md has no commands in the section '$section'"
    # A process of its own, because a list with || would go on after a command that fails.
    (cd "$directory" && PATH=$root/target/tools:$PATH sh -eu "$work/commands") || fail "refused in the section '$section'"
done
