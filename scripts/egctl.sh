#!/bin/sh
# Builds egctl, the command of Envoy Gateway, as target/tools/egctl, unless it exists. A test of envoy/gateway needs it.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

egctl_version=v1.9.1
tools=$(pwd -P)/target/tools
mkdir -p "$tools"

install_egctl() {
    CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/envoyproxy/gateway/cmd/egctl@$egctl_version" &&
        mv "$cache/egctl" "$tools/egctl-$egctl_version"
}
[ -x "$tools/egctl-$egctl_version" ] || {
    need_go egctl
    say "building egctl $egctl_version (minutes, and 3 GB while it builds)"
    in_go install_egctl || fail "go could not build egctl"
}
ln -sfn "egctl-$egctl_version" "$tools/egctl"
say "egctl $egctl_version"
