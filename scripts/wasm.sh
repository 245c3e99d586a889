#!/bin/sh
# Builds the module that Envoy loads: target/firstword.wasm. An argument is the directory of another crate of this repository.
# Then builds that crate's module, into target/ under the crate's name. The argument `traps` is for a test: it builds
# target/firstword-traps.wasm, which traps where the test asks for it.
#
# Rust's standard library for wasm32 comes from the first of these that is available:
#   rustup   the target is installed, or `rustup target add` brings it;
#   debian   the packages rustc-web and rust-web-src: cargo compiles the library from its sources (build-std).
# WASM_TOOLCHAIN=rustup or =debian allows only that one.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

root=$(pwd -P)
features=
[ "${1:-}" != traps ] || { features=--features=inject-traps && shift; }
manifest=${1:-crates/proxy-wasm}/Cargo.toml
package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -n 1)
# The file has the name of the project, not of the package.
name=$package
[ $# != 0 ] || name=firstword${features:+-traps}
target=wasm32-unknown-unknown
# A target directory of its own, so that native builds and another rustc do not make cargo build everything again.
target_dir=$root/target/wasm

# The standard library's sources must have the version of the compiler.
has_debian() {
    command -v wasm-ld >/dev/null || return 1
    versions=$(dpkg-query -W -f='${db:Status-Status} ${Version}\n' rustc-web rust-web-src 2>/dev/null) || return 1
    [ "$(echo "$versions" | sort -u | wc -l)" = 1 ] && [ "${versions%% *}" = installed ]
}

need_rust
case ${WASM_TOOLCHAIN:-any} in
any) if has_target "$target" || add_target "$target"; then way=rustup; else way=debian; fi ;;
rustup)
    has_target "$target" || add_target "$target" || fail "no standard library for wasm32; run: rustup target add $target"
    way=rustup
    ;;
debian) way=debian ;;
*) fail "WASM_TOOLCHAIN is rustup or debian, not '$WASM_TOOLCHAIN'" ;;
esac

# shellcheck disable=SC2086 # empty or one word
set -- --manifest-path "$manifest" $features --release --locked --lib --crate-type cdylib --target "$target" --target-dir "$target_dir"
# The module contains no path of this machine, so that the same source makes the same bytes everywhere.
flags=$(printf '%s\037' \
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    "--remap-path-prefix=$root=/firstword")
if [ "$way" = debian ]; then
    has_debian || apt_install rustc-web rust-web-src lld
    has_debian || fail "rustc-web and rust-web-src differ in version; run: apt-get install rustc-web rust-web-src lld"
    sources=$(readlink -f /usr/lib/rustlib/src/rust)
    flags=$flags$(printf '%s\037' \
        "--remap-path-prefix=$sources=/rust" \
        "--remap-path-prefix=/usr/lib/rustlib/src/rust=/rust" \
        "-Clinker=wasm-ld")
    export RUSTC=/usr/bin/rustc
    # build-std is an unstable option of every cargo.
    export RUSTC_BOOTSTRAP=1
    set -- "$@" -Zbuild-std=std,panic_abort
    say "building with Debian's $($RUSTC --version | cut -d' ' -f1-2) and build-std"
else
    say "building with $("${RUSTC:-rustc}" --version | cut -d' ' -f1-2) and its own $target"
fi
export CARGO_ENCODED_RUSTFLAGS="${flags%?}"

# For the metric build_info. Set FIRSTWORD_COMMIT when you build from a source archive.
: "${FIRSTWORD_COMMIT:=$(scripts/commit.sh)}"
case $FIRSTWORD_COMMIT in
*[!a-z0-9_+./-]*) fail "FIRSTWORD_COMMIT becomes a label's value, of [a-z0-9_+./-] only: '$FIRSTWORD_COMMIT'" ;;
esac
export FIRSTWORD_COMMIT

# `cargo rustc` with one crate type, because with two Cargo silently skips link-time optimisation.
cargo rustc "$@"

built=$target_dir/$target/release/$(echo "$package" | tr - _).wasm
module=$root/target/$name.wasm
# Not replaced if nothing changed, and renamed, so that an Envoy that starts now does not read half a file.
cmp -s "$built" "$module" || { cp "$built" "$module.new" && mv "$module.new" "$module"; }
say "target/$name.wasm: $(wc -c <"$module") bytes, sha256 $(sha256sum "$module" | cut -d' ' -f1)"
