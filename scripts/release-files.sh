#!/bin/sh
# Lists the files of target/dist that a release on GitHub has, one on a line. Fails if one is missing.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for file in firstword.wasm "libfirstword-$version-linux-x86_64.so" "libfirstword-$version-linux-aarch64.so" \
    sbom.cdx.json sbom-native.cdx.json sbom-command.cdx.json LICENSES.txt BUILD.txt SHA256SUMS firstword.krew.yaml "firstword-$version.tgz" \
    "firstword-$version-linux-x86_64.tar.gz" "firstword-$version-linux-aarch64.tar.gz" kubectl-firstword-linux-amd64.tar.gz \
    kubectl-firstword-linux-arm64.tar.gz; do
    [ -f "target/dist/$file" ] || fail "target/dist/$file is missing; run: make release"
    echo "target/dist/$file"
done
