#!/bin/sh
# Builds Helm as target/tools/helm, unless it exists. `make chart` and the tests of charts/ need it.
#
# The version is old, so that every newer one can do the same, and so that Go 1.19 of Debian 12 can build it. HELM_VERSION
# chooses another one for these tests: HELM_VERSION=v4.3.2 scripts/helm.sh
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

helm_version=${HELM_VERSION:-v3.12.3}
go_program helm "$helm_version" "helm.sh/helm/${helm_version%%.*}/cmd/helm" "minutes"
