#!/bin/sh
# The hook of .pre-commit-hooks.yaml: builds the command at this commit, and checks the files: pre-commit.sh FILE...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)
target=${CARGO_TARGET_DIR:-$root/target}
cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --package firstword-cli --target-dir "$target"
exec "$target/debug/firstword" check-config "$@"
