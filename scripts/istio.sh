#!/bin/sh
# Gets the programs and files that the tests of istio/ need. Existing ones are used.
#
#   target/tools/kustomize       an old version, so that every version of `kubectl apply -k` can do the same
#   target/tools/crane           a registry, and a tool to push to it, for the tests of images
#   target/tools/istio-crds.yaml the schemas of Istio's resources, from the Go module istio.io/api
#   ip, iptables                 by apt, for the tests in network namespaces; as root only
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

api_version=v1.31.1
go_program kustomize v5.0.1 sigs.k8s.io/kustomize/kustomize/v5 "a minute"
# Built by Go 1.18 and newer.
go_program crane v0.20.2 github.com/google/go-containerregistry/cmd/crane "a minute"

fetch_crds() {
    go mod download "istio.io/api@$api_version" &&
        cp "$cache/pkg/mod/istio.io/api@$api_version/kubernetes/customresourcedefinitions.gen.yaml" "$tools/istio-crds.new" &&
        chmod 644 "$tools/istio-crds.new" && mv "$tools/istio-crds.new" "$tools/istio-crds-$api_version.yaml"
}
[ -e "$tools/istio-crds-$api_version.yaml" ] || in_go fetch_crds || fail "go could not fetch istio.io/api"
ln -sfn "istio-crds-$api_version.yaml" "$tools/istio-crds.yaml"

if [ "$(id -u)" = 0 ]; then
    PATH=$PATH:/usr/sbin:/sbin
    command -v ip >/dev/null || apt_install iproute2
    command -v iptables-restore >/dev/null || apt_install iptables
fi
say "Istio's schemas $api_version"
