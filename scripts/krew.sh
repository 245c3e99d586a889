#!/bin/sh
# Builds krew and its check of manifests as target/tools/krew and target/tools/validate-krew-manifest, unless they exist.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

# Built by Go 1.17 and newer.
for program in krew validate-krew-manifest; do
    go_program "$program" v0.4.3 "sigs.k8s.io/krew/cmd/$program" "seconds"
done
