#!/bin/sh
# Puts the files of a release into target/dist, from a tree without changes:
#
#   firstword.wasm            the module
#   oci/image, oci/artifact   the images that Istio's agent can fetch, as image layouts
#   sbom.cdx.json             the packages in the module (CycloneDX 1.5)
#   LICENSES.txt              the full text of their licences
#   BUILD.txt                 version, commit, toolchain, digests
#   SHA256SUMS                the hashes of these files
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
cp -r target/oci "$files"

# cargo-cyclonedx writes a file next to the Cargo.toml of each package, with this directory's name in it. The time is the
# commit's.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) target/tools/cargo-cyclonedx cyclonedx --quiet --format json \
    --spec-version 1.5 --target wasm32-unknown-unknown --override-filename sbom.cdx || fail "no list of packages"
sed "s|path+file://$root|path+file:///firstword|g" crates/proxy-wasm/sbom.cdx.json >"$files/sbom.cdx.json"
rm -f sbom.cdx.json ./*/sbom.cdx.json ./*/*/sbom.cdx.json

# The licence texts of each package.
cargo tree --locked --offline --package firstword-proxy-wasm --edges no-dev,no-proc-macro --target wasm32-unknown-unknown --prefix none --no-dedupe \
    --format '{p}' | sort -u | sed -n 's/^\([^ ]*\) v\([^ ]*\)$/\1-\2/p' >"$files/packages"
cp LICENSE "$files/LICENSES.txt"
while read -r package; do
    directory=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -mindepth 2 -maxdepth 2 -name "$package" | head -n 1)
    texts=$(find "${directory:-/nowhere}" -maxdepth 1 -iname 'licen[cs]e*' -o -maxdepth 1 -iname 'copying*' \
        -o -maxdepth 1 -iname 'notice*' | sort)
    [ -n "$texts" ] || fail "$package brings no licence"
    for text in $texts; do
        printf '\n\n==== %s, %s\n\n' "$package" "${text##*/}"
        cat "$text"
    done >>"$files/LICENSES.txt"
done <"$files/packages"
rm "$files/packages"

{
    echo "firstword $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
    echo "commit $(git rev-parse HEAD)"
    echo "$build" | sed -n 's/^wasm.sh: //p'
    echo "$images"
} | sed 's|^target/||' >"$files/BUILD.txt"
cd "$files"
find . -type f ! -name SHA256SUMS | sed 's|^\./||' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS
cat BUILD.txt
say "in target/dist"
