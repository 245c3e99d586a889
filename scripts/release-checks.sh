#!/bin/sh
# Lists what keeps this tree from being released, and fails if there is anything: release-checks.sh [TAG]
#
# Each problem is one line. TAG, as in a workflow for a tag, must be the version of Cargo.toml.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

problems=0
problem() {
    echo "release-checks.sh: $*" >&2
    problems=$((problems + 1))
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ -z "${1:-}" ] || [ "$1" = "v$version" ] || problem "the tag is $1, and Cargo.toml has the version $version"
grep -q "^## \[$version\] - " CHANGELOG.md || problem "CHANGELOG.md has no heading '## [$version] - DATE'"
grep -q "^## To $version$" docs/upgrade.md || problem "docs/upgrade.md has no heading '## To $version'"
contact=$(sed -n 's/^Security contact: \([^ ]*\).*/\1/p' SECURITY.md)
case $contact in
'' | *NOT-SET*) problem "SECURITY.md has no security contact; replace CONTACT-NOT-SET by an address" ;;
esac
for file in SUPPORT.md SECURITY.md LICENSE; do
    [ -s "$file" ] || problem "$file is missing"
done
# A user of the manifests must not get an image that the project did not make. Zeros are no image.
images=$(grep -rhoE '(oci:|image:|reference:) *"?/*[^" ]*/firstword[^" ]*' istio envoy charts --include='*.yaml' | grep -v '@sha256:0\{64\}$' |
    grep -v '@sha256:\.\.\.$' || true)
[ -z "$images" ] || problem "a manifest names an image: $images"
[ $problems = 0 ] || exit 1
say "nothing keeps version $version from being released"
