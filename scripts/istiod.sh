#!/bin/sh
# Writes tests/istio/istiod/*.json anew: what a real istiod makes of each case. $1: a checkout of github.com/istio/istio,
# which needs the Go of its go.mod. The one used is named in tests/istio/istiod.rs.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

[ -e "${1:-}/pilot/test/xds/fake.go" ] || fail "not a checkout of istio: '${1:-}'"
FIRSTWORD_ISTIOD=$(mktemp -d)
export FIRSTWORD_ISTIOD
package=$1/pilot/test/firstword
trap 'rm -rf "$FIRSTWORD_ISTIOD" "$package"' EXIT
cargo test --quiet --test istio istiod::cases_for_istiod -- --ignored
mkdir -p "$package"
cp tests/istio/istiod/dump_test.go "$package"
(cd "$1" && go test -count=1 ./pilot/test/firstword)
cargo test --quiet --test istio istiod::what_istiod_made -- --ignored
