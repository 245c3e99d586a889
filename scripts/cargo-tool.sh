#!/bin/sh
# Builds a program from Cargo's registry as target/tools/NAME, unless it exists: cargo-tool.sh NAME VERSION
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

need_rust
tools=$(pwd -P)/target/tools
mkdir -p "$tools"
[ -x "$tools/$1-$2" ] || {
    say "building $1 $2 (minutes)"
    built=$(mktemp -d "$tools/cargo.XXXXXX")
    trap 'rm -rf "$built"' EXIT
    CARGO_TARGET_DIR=$built/target cargo install --quiet --locked --root "$built" "$1@$2" || fail "cargo could not build $1 $2"
    mv "$built/bin/$1" "$tools/$1-$2"
}
ln -sfn "$1-$2" "$tools/$1"
