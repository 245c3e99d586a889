#!/bin/sh
# Runs the way from a hang to metrics in a cluster of kind with a released Firstword: kind.sh TAG ISTIO
#
# TAG is a release. ISTIO is a version for Helm, such as ~1.32.0. The cluster is removed at the end. Needs kind, kubectl, Helm,
# Docker and the Internet; .github/workflows/kind.yaml runs it. It has not yet run anywhere.
set -eu
[ $# = 2 ] || { echo "kind.sh: TAG ISTIO" >&2; exit 2; }
cd "$(dirname "$0")/.."
. scripts/common.sh

tag=$1
version=${tag#v}
istio=$2
charts=oci://ghcr.io/firstword/charts
releases=https://github.com/firstword/firstword/releases/download/$tag
work=$(mktemp -d)
cluster=firstword-$$
export KUBECONFIG="$work/kubeconfig"
trap 'kind delete cluster --name "$cluster"; rm -rf "$work"' EXIT
for program in kind kubectl helm docker curl; do
    command -v $program >/dev/null || fail "$program is missing"
done

step() { echo "== $*"; }
# $1: a count of tries, the rest: a command. Waits until the command succeeds.
until_ok() {
    tries=$1
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "in vain: $*"
        sleep 2
    done
}
query() {
    kubectl exec --namespace shop deploy/app --container app -- \
        timeout 10 mariadb --host "$database" --user root --password=firstword --skip-ssl --batch --execute 'SELECT 1'
}
# The filter's counter in the client's sidecar.
counts() {
    kubectl exec --namespace shop deploy/app --container istio-proxy -- \
        pilot-agent request GET 'stats?filter=firstword_commands_total' >"$work/stats"
    grep -q 'command=.=query.*: [1-9]' "$work/stats"
}

step "a cluster with Istio $istio"
kind create cluster --name "$cluster" --wait 180s
for chart in base istiod; do
    helm install "istio-$chart" "$chart" --repo https://istio-release.storage.googleapis.com/charts --version "$istio" \
        --namespace istio-system --create-namespace --wait
done
kubectl apply --filename tests/kind/workloads.yaml
kubectl rollout status --namespace databases deploy/mariadb --timeout 300s
kubectl rollout status --namespace shop deploy/app --timeout 300s
database=$(kubectl get pods --namespace databases --output 'jsonpath={.items[0].status.podIP}')

step "the client hangs"
if query; then fail "the client does not hang"; fi

step "kubectl firstword names the cause, and its fix ends the hang"
mkdir "$work/plugin"
curl --fail --silent --show-error --location "$releases/kubectl-firstword-linux-amd64.tar.gz" | tar -xz -C "$work/plugin"
PATH=$work/plugin:$PATH
status=0
kubectl firstword doctor deploy/app --namespace shop --dest "$database:3306" >"$work/report" || status=$?
cat "$work/report"
[ $status = 1 ] && grep -q irrelevant-svc "$work/report" || fail "doctor did not name the Service"
kubectl firstword doctor deploy/app --namespace shop --dest "$database:3306" --fix 1 | kubectl apply --filename -
until_ok 30 query

step "the chart of the release, and its metrics"
cat >"$work/values.yaml" <<END
config: {rules: [{name: database, match: {ports: [3306]}, protocol: mysql}]}
targets:
- namespace: shop
  labels: {app: app}
  outbound: {ports: [3306], listeners: ["${database}_3306"]}
END
helm install firstword "$charts/firstword" --version "$version" --values "$work/values.yaml"
until_ok 60 sh -c "kubectl exec --namespace shop deploy/app --container istio-proxy -- \
    pilot-agent request GET 'stats?filter=firstword_build_info' | grep -q ': 1'"
query
until_ok 15 counts
cat "$work/stats"

step "without the chart the client works as before"
helm uninstall firstword
query
say "$tag works with Istio $istio"
