#!/bin/sh
# Builds cosign as target/tools/cosign, unless it exists. `make release DRY=1`, the release workflow and the tests of signatures
# need it.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

go_program cosign v3.1.3 github.com/sigstore/cosign/v3/cmd/cosign "minutes" new
