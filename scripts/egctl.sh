#!/bin/sh
# Builds egctl, the command of Envoy Gateway, as target/tools/egctl, unless it exists. A test of envoy/gateway needs it.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

go_program egctl v1.9.1 github.com/envoyproxy/gateway/cmd/egctl "minutes, and 3 GB while it builds" new
