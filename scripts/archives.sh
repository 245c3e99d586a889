#!/bin/sh
# Packs the command for users, and writes the manifest of the plugin for kubectl:
# archives.sh DIRECTORY LICENSES SYSTEM-PROCESSOR=BINARY...
#
#   firstword-VERSION-SYSTEM-PROCESSOR.tar.gz     the binary, its manual pages, completions and licences
#   kubectl-firstword-SYSTEM-PROCESSOR.tar.gz     the same binary as `kubectl firstword`, with Go's name of the processor
#   firstword.krew.yaml                           the manifest with which krew installs that plugin
#
# SYSTEM is linux or darwin, PROCESSOR is x86_64 or aarch64. The binary for this machine prints the completions. The same
# binaries give the same bytes on any machine.
set -eu
[ $# -ge 3 ] || { echo "archives.sh: DIRECTORY LICENSES SYSTEM-PROCESSOR=BINARY..." >&2; exit 2; }
mkdir -p "$1"
directory=$(cd "$1" && pwd -P)
licenses=$(realpath "$2")
shift 2
# Paths that stay right in another directory.
for binary in "$@"; do
    shift
    set -- "$@" "${binary%%=*}=$(realpath "${binary#*=}")"
done
cd "$(dirname "$0")/.."
. scripts/common.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
homepage=https://github.com/firstword/firstword
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
own=
for binary in "$@"; do
    [ "${binary%%=*}" != "linux-$(uname -m)" ] || own=${binary#*=}
done
[ -n "$own" ] || fail "no binary runs on $(uname -m)"

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

for each in "$@"; do
    platform=${each%%=*}
    binary=${each#*=}
    os=${platform%-*}
    case $platform in
    linux-x86_64 | darwin-x86_64) arch=amd64 ;;
    linux-aarch64 | darwin-aarch64) arch=arm64 ;;
    *) fail "no plugin of kubectl for '$platform'" ;;
    esac
    name=firstword-$version-$platform
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
    plugin=kubectl-firstword-$os-$arch.tar.gz
    pack "$plugin" "$work/plugin" LICENSE LICENSES.txt kubectl-firstword
    cat >>"$directory/firstword.krew.yaml" <<EOF
  - selector: {matchLabels: {os: $os, arch: $arch}}
    uri: $homepage/releases/download/v$version/$plugin
    sha256: $(sha256sum "$directory/$plugin" | cut -d' ' -f1)
    bin: kubectl-firstword
EOF
done
say "$directory: version $version for $# platforms"
