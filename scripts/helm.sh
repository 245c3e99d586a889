#!/bin/sh
# Builds Helm as target/tools/helm, unless it exists. `make chart` and the tests of charts/ need it.
#
# The version is old, so that every newer one can do the same, and so that Go 1.19 of Debian 12 can build it. HELM_VERSION
# chooses another one for these tests: HELM_VERSION=v4.3.2 scripts/helm.sh
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

helm_version=${HELM_VERSION:-v3.12.3}
tools=$(pwd -P)/target/tools
mkdir -p "$tools"

install_helm() {
    major=${helm_version%%.*}
    go install "helm.sh/helm/$major/cmd/helm@$helm_version" && mv "$cache/helm" "$tools/helm-$helm_version"
}
[ -x "$tools/helm-$helm_version" ] || {
    say "building helm $helm_version (minutes)"
    in_go install_helm || fail "go could not build helm"
}
ln -sfn "helm-$helm_version" "$tools/helm"
say "helm $helm_version"
