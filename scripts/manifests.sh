#!/bin/sh
# Packs istio/ and envoy/ as DIRECTORY/firstword-manifests-VERSION.tar.gz, by default into target/chart: manifests.sh [DIRECTORY]
#
# IMAGE_REPOSITORY and IMAGE_DIGEST replace the name and the zeros that stand for the image of the wasm module, and
# IMAGE_REPOSITORY-native and NATIVE_DIGEST those of the native module. Without them a user must replace both. The same files give
# the same bytes on any machine.
set -eu
directory=$(mkdir -p "${1:-$(dirname "$0")/../target/chart}" && cd "${1:-$(dirname "$0")/../target/chart}" && pwd -P)
cd "$(dirname "$0")/.."
. scripts/common.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=firstword-manifests-$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/$name"
cp -r istio envoy LICENSE "$work/$name"
zeros=$(printf '%064d' 0)
# $1: what stands for an image, $2: the image
name_image() {
    files=$(grep -rl "$1@sha256:$zeros" "$work/$name") || fail "no manifest has $1"
    for file in $files; do
        sed -i "s|$1@sha256:$zeros|$2|" "$file"
    done
}
if [ -n "${IMAGE_REPOSITORY:-}" ]; then
    [ -z "${IMAGE_DIGEST:-}" ] || name_image registry.example.com/firstword "$IMAGE_REPOSITORY@$IMAGE_DIGEST"
    [ -z "${NATIVE_DIGEST:-}" ] || name_image registry.example.com/firstword-native "$IMAGE_REPOSITORY-native@$NATIVE_DIGEST"
fi
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --format=ustar -cf - -C "$work" "$name" |
    gzip -n9 >"$directory/$name.tar.gz"
say "${directory#"$PWD"/}/$name.tar.gz"
