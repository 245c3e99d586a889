#!/bin/sh
# Builds target/tools/grafana-schema, which checks a dashboard with Grafana's own package of its schema.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=$(pwd -P)/target/tools
source=$(pwd -P)/tests/observability/schema
version=$(sed -n 's/.*grafana-foundation-sdk\/go v//p' "$source/go.mod")
mkdir -p "$tools"
[ -x "$tools/grafana-schema-$version" ] || {
    say "building the check of Grafana's schema $version (minutes)"
    in_go sh -c "cd '$source' && exec go build -trimpath -mod=readonly -o '$tools/grafana-schema.new' ." ||
        fail "Go could not build grafana-schema"
    mv "$tools/grafana-schema.new" "$tools/grafana-schema-$version"
}
ln -sfn "grafana-schema-$version" "$tools/grafana-schema"
