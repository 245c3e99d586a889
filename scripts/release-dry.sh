#!/bin/sh
# Runs the release workflow step by step on this machine, with a registry of its own instead of GitHub's and a key of its own
# instead of GitHub's identity. Then verifies each artefact by the commands of docs/verify-release.md. It publishes nothing.
# `make release DRY=1`
#
# Steps that need GitHub or an account are listed at the end as not run.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
root=$(pwd -P)

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
scripts/cosign.sh
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

step "sign, with a key of this machine"
(cd "$work" && COSIGN_PASSWORD='' "$root/target/tools/cosign" generate-key-pair)
COSIGN_PASSWORD='' COSIGN_KEY=$work/cosign.key scripts/sign.sh "$repository" "$tag"

step "verify: every command of docs/verify-release.md"
released=$(scripts/release-files.sh) || fail "the release has not all of its files"
mkdir "$work/downloaded"
# shellcheck disable=SC2086 # a list of files
cp $released "$work/downloaded"
command -v jq >/dev/null || apt_install jq
scripts/verify.sh "$work/downloaded" "$repository" "$tag" "$work/cosign.pub"

step "refuse: a changed byte, another key, another digest"
cargo test --quiet --locked --test signatures -- --include-ignored

step "verify: chart and manifests name the images of this release and no other"
digest_of() { sed -n "s|^oci/$1  *||p" target/dist/BUILD.txt; }
chart=$work/downloaded/pulled/firstword-$version.tgz
target/tools/helm template firstword "$chart" --set 'targets[0].labels.app=app' --set 'targets[0].outbound.ports={3306}' \
    >"$work/manifests.yaml"
target/tools/helm show values "$chart" >"$work/values.yaml"
tar -xzf "$work/downloaded/firstword-manifests-$version.tar.gz" -C "$work"
{
    echo ---
    target/tools/kustomize build "$work/firstword-manifests-$version/istio/overlays/envoyfilter"
} >>"$work/manifests.yaml"
images=$(grep -rhoE '(oci://|reference: )[^" ,}]+' "$work/manifests.yaml" "$work/firstword-manifests-$version" --include='*.yaml' |
    sort -u)
[ "$images" = "oci://$repository@$(digest_of image)
reference: $repository-native@$(digest_of native)" ] || fail "chart or manifests name: $images"
for value in "repository: $repository-native" "digest: $(digest_of native)"; do
    grep -q -x "    $value" "$work/values.yaml" || fail "the chart has no '$value'"
done

step "verify: the command, its configuration check and its image"
machine=$(uname -m)
case $machine in x86_64) arch=amd64 ;; *) arch=arm64 ;; esac
tar -xzf "target/dist/firstword-$version-linux-$machine.tar.gz" -C "$work"
command=$work/firstword-$version-linux-$machine/firstword
"$command" check-config - <"$work/manifests.yaml"
target/tools/helm template firstword "$chart" --values charts/firstword/ci/native-values.yaml | "$command" check-config -
"$command" check-config "$work/firstword-manifests-$version"/envoy/*.yaml
target/tools/crane export --platform "linux/$arch" "$repository-command:$tag" - | tar -xO firstword | cmp - "$command"

step "verify: krew installs the plugin, and the plugin reads a workload"
scripts/krew.sh
cp target/dist/firstword.krew.yaml "$work/firstword.yaml"
target/tools/validate-krew-manifest -manifest "$work/firstword.yaml" -skip-install
for each in amd64 arm64; do
    KREW_ROOT=$work/krew-$each KREW_OS=linux KREW_ARCH=$each target/tools/krew install --manifest="$work/firstword.yaml" \
        --archive="target/dist/kubectl-firstword-linux-$each.tar.gz" </dev/null
done
# In place of a cluster: a program that prints the configuration of a proxy of Istio.
mkdir "$work/programs"
printf '#!/bin/sh\ncat "%s"\n' "$root/tests/cluster/dumps/A1.json" >"$work/programs/istioctl"
chmod +x "$work/programs/istioctl"
status=0
PATH=$work/programs:$PATH "$work/krew-$arch/bin/kubectl-firstword" doctor deploy/app --context dry-run \
    --dest 55.108.108.2:10000 || status=$?
[ $status = 1 ] || fail "kubectl firstword doctor did not find the hang"

step "verify: the native module"
command -v readelf >/dev/null || apt_install binutils
for name in X86-64:x86_64 AArch64:aarch64; do
    module=target/dist/libfirstword-$version-linux-${name#*:}.so
    headers=$(LC_ALL=C readelf --wide --file-header --dyn-syms "$module") || fail "readelf cannot read $module"
    case $headers in *"${name%%:*}"*envoy_dynamic_module_on_program_init*) ;; *) fail "$module is no module for ${name#*:}" ;; esac
done
case $machine in x86_64) other=aarch64:arm64 ;; *) other=x86_64:amd64 ;; esac
target/tools/crane export --platform "linux/${other#*:}" "$repository-native:$tag" - | tar -xO libfirstword.so |
    cmp - "target/dist/libfirstword-$version-linux-${other%%:*}.so"

step "verify: the lists of packages"
for package in proxy-wasm:sbom.cdx.json bytes:sbom-native.cdx.json clap:sbom-command.cdx.json; do
    grep -q "\"name\": \"${package%%:*}\"" "target/dist/${package#*:}" || fail "${package#*:} has no ${package%%:*}"
done

step "the notes of the release"
scripts/release-notes.sh "$tag" || say "no notes yet: the first step has the reason"

step "not run: needs GitHub"
echo "signatures by the workflow's identity (scripts/sign.sh without COSIGN_KEY), and their verification"
echo "make reproduce (make test runs it)"
echo "gh release create, with: $(echo "$released" | tr '\n' ' ')"
say "version $version: every step that needs no account has run"
