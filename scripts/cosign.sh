#!/bin/sh
# Builds cosign as target/tools/cosign, unless it exists. `make release DRY=1`, the release workflow and the tests of signatures
# need it.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

cosign_version=v3.1.3
tools=$(pwd -P)/target/tools
mkdir -p "$tools"

install_cosign() {
    CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/sigstore/cosign/v3/cmd/cosign@$cosign_version" &&
        mv "$cache/cosign" "$tools/cosign-$cosign_version"
}
[ -x "$tools/cosign-$cosign_version" ] || {
    need_go cosign
    say "building cosign $cosign_version (minutes)"
    in_go install_cosign || fail "go could not build cosign"
}
ln -sfn "cosign-$cosign_version" "$tools/cosign"
say "cosign $cosign_version"
