#!/bin/sh
# Packs the command for users, and writes the manifest of the plugin for kubectl: archives.sh DIRECTORY X86_64 AARCH64 LICENSES
#
#   firstword-VERSION-linux-PROCESSOR.tar.gz      the binary, its manual pages, completions and licences
#   kubectl-firstword-linux-PROCESSOR.tar.gz      the same binary as `kubectl firstword`
#   firstword.krew.yaml                           the manifest with which krew installs that plugin
#
# X86_64 and AARCH64 are paths of binaries. The one for this machine prints the completions. The same binaries give the same
# bytes on any machine.
set -eu
[ $# = 4 ] || { echo "archives.sh: DIRECTORY X86_64 AARCH64 LICENSES" >&2; exit 2; }
mkdir -p "$1"
directory=$(cd "$1" && pwd -P)
x86_64=$(realpath "$2")
aarch64=$(realpath "$3")
licenses=$(realpath "$4")
cd "$(dirname "$0")/.."
. scripts/common.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
homepage=https://github.com/firstword/firstword
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $(uname -m) in
x86_64) own=$x86_64 ;;
aarch64) own=$aarch64 ;;
*) fail "no binary runs on $(uname -m)" ;;
esac

# $1: archive, $2: directory, the rest: what in it
pack() {
    archive=$directory/$1
    in=$2
    shift 2
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --format=ustar -cf - -C "$in" "$@" |
        gzip -n9 >"$archive"
}

mkdir -p "$work/man" "$work/completions"
"$own" man "$work/man"
for shell in bash elvish fish powershell zsh; do
    "$own" completions $shell >"$work/completions/firstword.$shell"
done

cat >"$directory/firstword.krew.yaml" <<EOF
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: firstword
spec:
  version: v$version
  homepage: $homepage
  shortDescription: Find out why MySQL connections hang in Istio
  description: |
    Follows a connection through a proxy's configuration, and reports which
    listener filter waits for the client's first bytes while the client waits
    for the server. Prints the manifest that fixes it. Also checks
    configurations of the filter Firstword, and reads captures of MySQL.
  platforms:
EOF

for processor in x86_64 aarch64; do
    case $processor in
    x86_64) binary=$x86_64 arch=amd64 ;;
    aarch64) binary=$aarch64 arch=arm64 ;;
    esac
    name=firstword-$version-linux-$processor
    mkdir -p "$work/$name"
    cp -r "$work/man" "$work/completions" LICENSE "$work/$name"
    cp "$licenses" "$work/$name/LICENSES.txt"
    install -m 755 "$binary" "$work/$name/firstword"
    pack "$name.tar.gz" "$work" "$name"

    # krew unpacks everything at the root of the archive, and requires a licence there.
    rm -rf "$work/plugin"
    mkdir "$work/plugin"
    cp LICENSE "$work/plugin"
    cp "$licenses" "$work/plugin/LICENSES.txt"
    install -m 755 "$binary" "$work/plugin/kubectl-firstword"
    plugin=kubectl-firstword-linux-$arch.tar.gz
    pack "$plugin" "$work/plugin" LICENSE LICENSES.txt kubectl-firstword
    cat >>"$directory/firstword.krew.yaml" <<EOF
  - selector: {matchLabels: {os: linux, arch: $arch}}
    uri: $homepage/releases/download/v$version/$plugin
    sha256: $(sha256sum "$directory/$plugin" | cut -d' ' -f1)
    bin: kubectl-firstword
EOF
done
say "$directory: version $version for two processors"
