#!/bin/sh
# Lists the files of target/dist that a release on GitHub has, one on a line. Fails if one is missing.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for file in firstword.wasm "libfirstword-$version-linux-x86_64.so" "libfirstword-$version-linux-aarch64.so" \
    sbom.cdx.json sbom-native.cdx.json sbom-command.cdx.json LICENSES.txt BUILD.txt SHA256SUMS SHA256SUMS.sigstore.json \
    provenance.sigstore.json firstword.krew.yaml "firstword-$version.tgz" "firstword-manifests-$version.tar.gz" \
    "firstword-$version-linux-x86_64.tar.gz" "firstword-$version-linux-aarch64.tar.gz" kubectl-firstword-linux-amd64.tar.gz \
    kubectl-firstword-linux-arm64.tar.gz ${MACOS_BINARIES:+"firstword-$version-darwin-x86_64.tar.gz"} \
    ${MACOS_BINARIES:+"firstword-$version-darwin-aarch64.tar.gz" kubectl-firstword-darwin-amd64.tar.gz} \
    ${MACOS_BINARIES:+kubectl-firstword-darwin-arm64.tar.gz}; do
    [ -f "target/dist/$file" ] || fail "target/dist/$file is missing; run: scripts/release.sh, publish.sh and sign.sh"
    echo "target/dist/$file"
done
