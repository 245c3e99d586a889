#!/bin/sh
# Runs the release workflow step by step on this machine, with a registry of its own instead of GitHub's, and then verifies each
# file as its documents say. It publishes nothing. `make release DRY=1`
#
# Steps that need GitHub or an account are listed at the end as not run.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

step() { echo "== $*"; }
work=$(mktemp -d)
registry=
trap '[ -z "$registry" ] || kill "$registry" 2>/dev/null; rm -rf "$work"' EXIT
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
tag=v$version

step "checks (a release would stop here)"
scripts/release-checks.sh "$tag" || say "goes on, because this is a dry run"

step "a registry on this machine"
scripts/istio.sh >/dev/null
target/tools/crane registry serve --address 127.0.0.1:0 >"$work/registry" 2>&1 &
registry=$!
tries=0
until port=$(sed -n 's/.*serving on port \([0-9]*\).*/\1/p' "$work/registry") && [ -n "$port" ]; do
    tries=$((tries + 1))
    [ $tries -le 100 ] || fail "the registry does not start: $(cat "$work/registry")"
    sleep 0.1
done
# Helm and crane speak plain HTTP with this name.
repository=localhost:$port/firstword/firstword

step "the files of the release"
IMAGE_REPOSITORY=$repository scripts/release.sh

step "push"
scripts/publish.sh "$repository" "$tag"

step "verify: checksums"
(cd target/dist && sha256sum --quiet --strict --check SHA256SUMS)

step "verify: the module in the image"
digest=$(sed -n 's|^oci/image  *||p' target/dist/BUILD.txt)
target/tools/crane export "$repository@$digest" - | tar -xO plugin.wasm | cmp - target/dist/firstword.wasm

step "verify: the chart in the registry names that image"
target/tools/helm pull "oci://localhost:$port/firstword/charts/firstword" --version "$version" --destination "$work" >/dev/null 2>&1 ||
    fail "no chart in the registry"
cmp "$work/firstword-$version.tgz" "target/dist/firstword-$version.tgz"
target/tools/helm template firstword "$work/firstword-$version.tgz" --set 'targets[0].labels.app=app' \
    --set 'targets[0].outbound.ports={3306}' >"$work/manifests.yaml"
grep -q "oci://$repository@$digest" "$work/manifests.yaml" || fail "the chart names another image"

step "verify: the command, its configuration check and its plugin"
machine=$(uname -m)
case $machine in x86_64) arch=amd64 ;; *) arch=arm64 ;; esac
tar -xzf "target/dist/firstword-$version-linux-$machine.tar.gz" -C "$work"
"$work/firstword-$version-linux-$machine/firstword" check-config - <"$work/manifests.yaml"
tar -xzf "target/dist/kubectl-firstword-linux-$arch.tar.gz" -C "$work"
[ "$("$work/kubectl-firstword" --version)" = "firstword $version" ]
sum=$(sha256sum "target/dist/kubectl-firstword-linux-$arch.tar.gz" | cut -d' ' -f1)
grep -q "sha256: $sum" target/dist/firstword.krew.yaml || fail "the manifest for krew has another checksum"
target/tools/crane export --platform "linux/$arch" "$repository-command:$tag" - | tar -xO firstword |
    cmp - "$work/kubectl-firstword"

step "verify: the native module"
command -v readelf >/dev/null || apt_install binutils
for name in X86-64:x86_64 AArch64:aarch64; do
    module=target/dist/libfirstword-$version-linux-${name#*:}.so
    headers=$(LC_ALL=C readelf --wide --file-header --dyn-syms "$module") || fail "readelf cannot read $module"
    case $headers in *"${name%%:*}"*envoy_dynamic_module_on_program_init*) ;; *) fail "$module is no module for ${name#*:}" ;; esac
done

step "verify: the lists of packages"
for package in proxy-wasm:sbom.cdx.json bytes:sbom-native.cdx.json clap:sbom-command.cdx.json; do
    grep -q "\"name\": \"${package%%:*}\"" "target/dist/${package#*:}" || fail "${package#*:} has no ${package%%:*}"
done
released=$(scripts/release-files.sh) || fail "the release has not all of its files"

step "not run: needs GitHub"
echo "cosign sign, cosign attest and cosign sign-blob (they sign with the workflow's identity)"
echo "gh release create, with: $(echo "$released" | tr '\n' ' ')"
say "version $version: every step that needs no account has run"
