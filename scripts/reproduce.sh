#!/bin/sh
# Builds the module twice, in two clean clones of the current commit in directories of different names and depths. Fails unless
# both are the same, byte for byte.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

root=$(pwd -P)
[ "$(scripts/commit.sh)" != unknown ] || fail "this is no git repository, so there is nothing to clone"
unset FIRSTWORD_COMMIT
clones=$(mktemp -d)
trap 'rm -rf "$clones"' EXIT
for clone in a much/deeper/clone; do
    git clone --quiet --no-hardlinks "$root" "$clones/$clone"
    (cd "$clones/$clone" && CARGO_TERM_QUIET=true scripts/wasm.sh)
done
cd "$clones"
cmp a/target/firstword.wasm much/deeper/clone/target/firstword.wasm || fail "the same source gives different modules"
commit=$(a/scripts/commit.sh)
grep -q -F -e "$commit" a/target/firstword.wasm || fail "the module does not hold its commit, $commit"
say "both are the same, and hold their commit, $commit"
