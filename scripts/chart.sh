#!/bin/sh
# Packs charts/firstword as DIRECTORY/firstword-VERSION.tgz, by default into target/chart: chart.sh [DIRECTORY]
#
# IMAGE_REPOSITORY and IMAGE_DIGEST become the default values of the chart's image. Without them a user must set both.
# NATIVE_DIGEST becomes that of the native module's image, which is IMAGE_REPOSITORY-native. The same files give the same bytes on
# any machine, because no time and no user of this machine is in the archive.
set -eu
directory=$(mkdir -p "${1:-$(dirname "$0")/../target/chart}" && cd "${1:-$(dirname "$0")/../target/chart}" && pwd -P)
cd "$(dirname "$0")/.."
. scripts/common.sh

scripts/helm.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r charts/firstword "$work/firstword"
values=$work/firstword/values.yaml

# $1: key with its indentation, $2: value. The key has an empty value in the file.
set_default() {
    grep -q "^$1: \"\" " "$values" || fail "charts/firstword/values.yaml has no empty '$1'"
    sed -i "s|^$1: \"\" .*|$1: $2|" "$values"
}
[ -z "${IMAGE_REPOSITORY:-}" ] || set_default '  repository' "$IMAGE_REPOSITORY"
[ -z "${IMAGE_DIGEST:-}" ] || set_default '  digest' "$IMAGE_DIGEST"
if [ -n "${IMAGE_REPOSITORY:-}" ] && [ -n "${NATIVE_DIGEST:-}" ]; then
    set_default '    repository' "$IMAGE_REPOSITORY-native"
    set_default '    digest' "$NATIVE_DIGEST"
fi

target/tools/helm lint --strict --quiet "$work/firstword" --values charts/firstword/ci/everything-values.yaml ||
    fail "helm finds faults in the chart"
packed=$(target/tools/helm package --destination "$work/packed" "$work/firstword") || fail "helm could not pack the chart"
packed=$(basename "${packed##*: }")
# Helm leaves out what .helmignore lists, and writes the present time into the archive. So pack its files again.
mkdir "$work/files"
tar -xzf "$work/packed/$packed" -C "$work/files"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode='u=rw,go=r,a+X' --format=ustar -cf - -C "$work/files" firstword |
    gzip -n9 >"$directory/$packed.new"
mv "$directory/$packed.new" "$directory/$packed"
say "${directory#"$PWD"/}/$packed"
