#!/bin/sh
# Builds krew and its check of manifests as target/tools/krew and target/tools/validate-krew-manifest, unless they exist.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

# Built by Go 1.17 and newer.
krew_version=v0.4.3
tools=$(pwd -P)/target/tools
mkdir -p "$tools"

install_krew() {
    for program in krew validate-krew-manifest; do
        go install "sigs.k8s.io/krew/cmd/$program@$krew_version" && mv "$cache/$program" "$tools/$program-$krew_version" || return 1
    done
}
[ -x "$tools/krew-$krew_version" ] && [ -x "$tools/validate-krew-manifest-$krew_version" ] || {
    say "building krew $krew_version"
    in_go install_krew || fail "go could not build krew"
}
for program in krew validate-krew-manifest; do
    ln -sfn "$program-$krew_version" "$tools/$program"
done
say "krew $krew_version"
