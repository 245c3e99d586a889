#!/bin/sh
# Signs the release in target/dist, after scripts/publish.sh has pushed it: sign.sh REPOSITORY TAG
#
#   in the registry            for the images and the chart: a signature and the provenance (SLSA 1.0); for the images with code
#                              of the project also the list of packages (CycloneDX)
#   SHA256SUMS.sigstore.json   the signature of SHA256SUMS, in target/dist
#   provenance.sigstore.json   the signed provenance of each file in SHA256SUMS, in target/dist
#
# In the workflow the signature names the workflow, and there is no key. COSIGN_KEY=FILE signs with that key instead, and then
# nothing but the registry is contacted.
set -eu
[ $# = 2 ] || { echo "sign.sh: REPOSITORY TAG" >&2; exit 2; }
cd "$(dirname "$0")/.."
. scripts/common.sh

repository=$1
tag=$2
dist=${DIST:-target/dist}
cosign=target/tools/cosign
crane=target/tools/crane
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/provenance.sh "$repository" "$tag" >"$work/predicate.json"

set -- --yes
if [ -n "${COSIGN_KEY:-}" ]; then
    # Without a certificate authority and without a transparency log.
    $cosign signing-config create >"$work/services.json"
    $cosign trusted-root create >"$work/roots.json"
    set -- --yes --key "$COSIGN_KEY" --signing-config "$work/services.json" --trusted-root "$work/roots.json"
fi

digest_of() { sed -n "s|^oci/$1  *||p" "$dist/BUILD.txt"; }
image=$repository@$(digest_of image)
artifact=$repository@$(digest_of artifact)
command=$repository-command@$(digest_of command)
native=$repository-native@$(digest_of native)
chart=${repository%/*}/charts/firstword
chart=$chart@$($crane digest "$chart:${tag#v}") || fail "no chart in the registry"
for signed in "$image" "$artifact" "$command" "$native" "$chart"; do
    $cosign sign "$@" --recursive "$signed" || fail "could not sign $signed"
    $cosign attest "$@" --type slsaprovenance1 --predicate "$work/predicate.json" "$signed" || fail "no provenance of $signed"
done
for packages in "$image sbom.cdx.json" "$artifact sbom.cdx.json" "$command sbom-command.cdx.json" "$native sbom-native.cdx.json"; do
    $cosign attest "$@" --type cyclonedx --predicate "$dist/${packages#* }" "${packages% *}" ||
        fail "no list of packages of ${packages% *}"
done

# One statement about all files.
{
    echo '{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "subject": ['
    sed 's/^\([0-9a-f]*\)  \(.*\)/{"name": "\2", "digest": {"sha256": "\1"}},/; $ s/,$//' "$dist/SHA256SUMS"
    echo '], "predicate":'
    cat "$work/predicate.json"
    echo '}'
} >"$work/statement.json"
$cosign attest-blob "$@" --statement "$work/statement.json" --bundle "$dist/provenance.sigstore.json" ||
    fail "no provenance of the files"
$cosign sign-blob "$@" --bundle "$dist/SHA256SUMS.sigstore.json" "$dist/SHA256SUMS" || fail "could not sign SHA256SUMS"
say "$tag: images, chart and files"
