#!/bin/sh
# Pushes what `make release` put into target/dist to a registry, and compares what the registry has: publish.sh REPOSITORY TAG
#
# REPOSITORY is that of the images, as in ghcr.io/firstword/firstword. Images of the wasm module get the tags TAG and TAG-artifact.
# The image of the command is REPOSITORY-command, that of the native module REPOSITORY-native, and the chart is in REPOSITORY's
# parent, below charts/.
set -eu
[ $# = 2 ] || { echo "publish.sh: REPOSITORY TAG" >&2; exit 2; }
cd "$(dirname "$0")/.."
. scripts/common.sh

repository=$1
tag=$2
dist=target/dist
crane=target/tools/crane

# $1: layout in the release, $2: name in the registry
push() {
    digest=$(sed -n "s|^oci/$1  *||p" $dist/BUILD.txt)
    $crane push "$dist/oci/$1" "$2" >/dev/null || fail "could not push $2"
    pushed=$($crane digest "$2")
    [ "$pushed" = "$digest" ] || fail "$2 is $pushed in the registry, and $digest in BUILD.txt"
    say "$2 $digest"
}

push image "$repository:$tag"
push artifact "$repository:$tag-artifact"
push command "$repository-command:$tag"
push native "$repository-native:$tag"
for chart in $dist/firstword-[0-9]*.tgz; do
    target/tools/helm push "$chart" "oci://${repository%/*}/charts" 2>&1 | sed 's/^/publish.sh: /'
done
