#!/bin/sh
# Builds a program from Cargo's registry as target/tools/NAME, unless it exists: cargo-tool.sh NAME VERSION [OPTION OF CARGO]...
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

need_rust
tools=$(pwd -P)/target/tools
name=$1
version=$2
shift 2
mkdir -p "$tools"
[ -x "$tools/$name-$version" ] || {
    say "building $name $version (minutes)"
    built=$(mktemp -d "$tools/cargo.XXXXXX")
    trap 'rm -rf "$built"' EXIT
    CARGO_TARGET_DIR=$built/target cargo install --quiet --locked --root "$built" "$@" "$name@$version" || fail "cargo could not build $name $version"
    mv "$built/bin/$name" "$tools/$name-$version"
}
ln -sfn "$name-$version" "$tools/$name"
