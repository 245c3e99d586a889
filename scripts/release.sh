#!/bin/sh
# Puts the files of a release into target/dist, from a tree without changes:
#
#   firstword.wasm            The module.
#   libfirstword-VERSION-linux-PROCESSOR.so
#                             The native module, for glibc 2.28 and newer.
#   oci/image, oci/artifact   The images that Istio's agent can fetch, as image layouts.
#   oci/command, oci/native   The images of the command and of the native module, for x86_64 and aarch64.
#   firstword-VERSION.tgz     The Helm chart, with the digests of oci/image and oci/native.
#   firstword-manifests-VERSION.tar.gz
#                             istio/ and envoy/, with the same digests.
#   firstword-VERSION-SYSTEM-PROCESSOR.tar.gz, kubectl-firstword-SYSTEM-PROCESSOR.tar.gz, firstword.krew.yaml
#                             The command (scripts/archives.sh).
#   sbom.cdx.json, sbom-native.cdx.json, sbom-command.cdx.json
#                             The packages in the module, in the native module and in the command (CycloneDX 1.5).
#   LICENSES.txt              The full text of the licences of these packages.
#   BUILD.txt                 Version, commit, toolchain, digests.
#   SHA256SUMS                The hashes of these files. The images have digests in BUILD.txt.
#
# IMAGE_REPOSITORY is the repository to which oci/image will be pushed, and IMAGE_REPOSITORY-native that of oci/native. The chart
# and the manifests name them. Without it, a user sets both. MACOS_BINARIES is a folder with firstword-x86_64 and firstword-aarch64 for macOS, which cannot be built on Linux.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

root=$(pwd -P)
commit=$(scripts/commit.sh)
case $commit in unknown | *-dirty) fail "a release is made of a commit; this tree is '$commit'" ;; esac
unset FIRSTWORD_COMMIT
files=$root/target/dist
rm -rf "$files"
mkdir -p "$files"

scripts/cargo-tool.sh cargo-cyclonedx 0.5.9
build=$(scripts/wasm.sh) || fail "the module does not build"
echo "$build"
cp target/firstword.wasm "$files"
images=$(cargo run --quiet --locked --package firstword-tools --bin image) || fail "no images"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for machine in x86_64 aarch64; do
    native=$(NATIVE_MACHINE=$machine scripts/native.sh portable) || fail "the native module does not build for $machine"
    echo "$native"
    built=$(echo "$native" | sed -n 's/^native.sh: \(target[^:]*\): for .*/\1/p')
    cp "$built" "$files/libfirstword-$version-linux-$machine.so"
    build=$(printf '%s\n%s' "$build" "$native")
done

# The command as a static binary: target/firstword for this machine, and target/firstword-MACHINE for the other one.
case $(uname -m) in
x86_64) x86_64=target/firstword aarch64=target/firstword-aarch64 other=aarch64 ;;
aarch64) x86_64=target/firstword-x86_64 aarch64=target/firstword other=x86_64 ;;
*) fail "no release from $(uname -m)" ;;
esac
CLI_LIBC=musl scripts/cli.sh || fail "the command does not build"
CLI_MACHINE=$other scripts/cli.sh || fail "the command does not build for $other"
pack() { cargo run --quiet --locked --package firstword-tools --bin image -- "$@"; }
command=$(pack command amd64=$x86_64 arm64=$aarch64) || fail "no image of the command"
native=$files/libfirstword-$version-linux
native=$(pack native amd64="$native-x86_64.so" arm64="$native-aarch64.so") || fail "no image of the native module"
images=$(printf '%s\n%s\n%s' "$images" "$command" "$native")
cp -r target/oci "$files"
digest_of() { echo "$images" | sed -n "s|^target/oci/$1  *||p"; }
IMAGE_DIGEST=$(digest_of image)
NATIVE_DIGEST=$(digest_of native)
export IMAGE_DIGEST NATIVE_DIGEST
scripts/chart.sh "$files"
scripts/manifests.sh "$files"

# $1: file, $2: directory of the package, $3: target. cargo-cyclonedx writes a file next to the Cargo.toml of each package, with
# this directory's name in it. The time is the commit's.
list_packages() {
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) target/tools/cargo-cyclonedx cyclonedx --quiet --format json \
        --spec-version 1.5 --target "$3" --override-filename sbom.cdx || fail "no list of packages"
    sed "s|path+file://$root|path+file:///firstword|g" "$2/sbom.cdx.json" >"$files/$1"
    rm -f sbom.cdx.json crates/*/sbom.cdx.json tools/sbom.cdx.json
}
list_packages sbom.cdx.json crates/proxy-wasm wasm32-unknown-unknown
list_packages sbom-native.cdx.json crates/dynamic-module x86_64-unknown-linux-gnu
list_packages sbom-command.cdx.json crates/cli x86_64-unknown-linux-musl

# The licence texts of each package.
packages() {
    cargo tree --locked --offline --package "$1" --edges no-dev,no-proc-macro --target "$2" --prefix none --no-dedupe --format '{p}'
}
{
    packages firstword-proxy-wasm wasm32-unknown-unknown
    packages firstword-dynamic-module x86_64-unknown-linux-gnu
    packages firstword-cli x86_64-unknown-linux-musl
} | sort -u | sed -n 's/^\([^ ]*\) v\([^ ]*\)$/\1-\2/p' >"$files/packages"
cp LICENSE "$files/LICENSES.txt"
while read -r package; do
    directory=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -mindepth 2 -maxdepth 2 -name "$package" | head -n 1)
    texts=$(find "${directory:-/nowhere}" -maxdepth 1 -iname 'licen[cs]e*' -o -maxdepth 1 -iname 'copying*' \
        -o -maxdepth 1 -iname 'notice*' | sort)
    # Of a package without a text, the one that it offers and that comes first here.
    if [ -z "$texts" ]; then
        grep -q '^license = .*Apache-2.0' "${directory:-/nowhere}/Cargo.toml" || fail "$package brings no licence"
        printf '\n\n==== %s: the Apache License, Version 2.0, as above\n' "$package" >>"$files/LICENSES.txt"
        continue
    fi
    for text in $texts; do
        printf '\n\n==== %s, %s\n\n' "$package" "${text##*/}"
        cat "$text"
    done >>"$files/LICENSES.txt"
done <"$files/packages"
rm "$files/packages"
set -- "linux-x86_64=$x86_64" "linux-aarch64=$aarch64"
if [ -n "${MACOS_BINARIES:-}" ]; then
    set -- "$@" "darwin-x86_64=$MACOS_BINARIES/firstword-x86_64" "darwin-aarch64=$MACOS_BINARIES/firstword-aarch64"
fi
scripts/archives.sh "$files" "$files/LICENSES.txt" "$@"

{
    echo "firstword $version"
    echo "commit $(git rev-parse HEAD)"
    echo "$build" | sed -n 's/^wasm.sh: //p; s/^native.sh: \(target\)/\1/p'
    echo "$images"
} | sed 's|^target/||' >"$files/BUILD.txt"
cd "$files"
find . -path ./oci -prune -o -type f ! -name SHA256SUMS -print | sed 's|^\./||' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS
cat BUILD.txt
say "in target/dist"
