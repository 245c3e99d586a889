#!/bin/sh
# Builds the programs of a Kubernetes cluster with Istio into target/tools/cluster, for `make test-cluster`. Existing ones are used.
#
#   kube-apiserver, kube-controller-manager, kube-proxy, kubectl, etcd   from tests/cluster/tools/kubernetes
#   pilot-discovery, pilot-agent, istioctl                               from tests/cluster/tools/istio
#   envoy_bootstrap.json, gateway-api.yaml                               files of Istio and of the Gateway API, for the agent and for
#                                                                        kubectl
#
# A first build takes up to an hour on two cores. go.mod and go.sum of the two modules pin every source file.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

cluster=$(pwd -P)/target/tools/cluster
modules=$(pwd -P)/tests/cluster/tools
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$modules/kubernetes/go.mod")
[ -n "$kubernetes" ] || fail "tests/cluster/tools/kubernetes/go.mod names no version of k8s.io/kubernetes"
mkdir -p "$cluster"

# The programs know their version from the linker only.
version=k8s.io/component-base/version
minor=${kubernetes#v1.}
kubernetes_flags="-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}"

# $1: program, $2: its Go module in tests/cluster/tools, $3: package, $4: flags for the linker. A link names the sums of the module
# from which a program was built, so that another version is built again.
build() {
    sums=$(cat "$modules/$2/go.mod" "$modules/$2/go.sum" | sha256sum | cut -c 1-12)
    [ ! -x "$cluster/$1-$sums" ] || { ln -sfn "$1-$sums" "$cluster/$1" && return; }
    need_go "Kubernetes and Istio"
    say "building $1"
    start=$(date +%s)
    # The cache stays until all programs are built, so that an interrupted build goes on where it was.
    (cd "$modules/$2" && GOPATH=$cluster/go GOCACHE=$cluster/go/build GOFLAGS=-modcacherw CGO_ENABLED=0 \
        nice -n 5 go build -mod=readonly -trimpath -ldflags "-s -w $4" -o "$cluster/$1.new" "$3") || fail "go could not build $1"
    mv "$cluster/$1.new" "$cluster/$1-$sums"
    ln -sfn "$1-$sums" "$cluster/$1"
    seconds=$(($(date +%s) - start))
    say "built $1 in $((seconds / 60)) min $((seconds % 60)) s"
}

build etcd kubernetes go.etcd.io/etcd/server/v3 ""
build kubectl kubernetes k8s.io/kubernetes/cmd/kubectl "$kubernetes_flags"
build kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver "$kubernetes_flags"
build kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager "$kubernetes_flags"
build kube-proxy kubernetes k8s.io/kubernetes/cmd/kube-proxy "$kubernetes_flags"
build pilot-discovery istio istio.io/istio/pilot/cmd/pilot-discovery ""
build pilot-agent istio istio.io/istio/pilot/cmd/pilot-agent ""
build istioctl istio istio.io/istio/istioctl/cmd/istioctl ""

# $1: file name without its end, $2: the end, $3: Go module with the files, the rest: the files that it consists of.
copy() {
    name=$1
    end=$2
    module=$3
    shift 3
    [ -e "$cluster/$name-$sums.$end" ] || {
        need_go "Kubernetes and Istio"
        directory=$(cd "$modules/istio" && GOPATH=$cluster/go GOFLAGS=-modcacherw go mod download -json "$module" |
            sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
        # YAML documents need a line between them.
        (cd "$directory" && awk 'FNR == 1 && NR > 1 { print "---" } { print }' "$@") >"$cluster/$name.new"
        mv "$cluster/$name.new" "$cluster/$name-$sums.$end"
    }
    ln -sfn "$name-$sums.$end" "$cluster/$name.$end"
}
# The template from which the agent makes Envoy's bootstrap. Istio's image has it.
copy envoy_bootstrap json istio.io/istio tools/packaging/common/envoy_bootstrap.json
# The kinds of the Gateway API that istiod watches.
api=config/crd/standard/gateway.networking.k8s.io
copy gateway-api yaml sigs.k8s.io/gateway-api "${api}_gatewayclasses.yaml" "${api}_gateways.yaml" "${api}_httproutes.yaml" \
    "${api}_grpcroutes.yaml" "${api}_referencegrants.yaml" "${api}_backendtlspolicies.yaml"
rm -rf "$cluster/go"
say "Kubernetes $kubernetes, $("$cluster/etcd" --version | head -n 1)"
