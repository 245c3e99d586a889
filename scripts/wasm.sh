#!/bin/sh
# Builds the module Envoy loads: target/firstword.wasm. With an argument, the directory of another crate of this
# repository, that crate's module instead, into target/ under the crate's name.
#
# Rust's standard library for wasm32 comes from the first of these that can be had:
#   rustup   the target is installed, or `rustup target add` brings it;
#   debian   the packages rustc-web and rust-web-src: cargo compiles the library from its sources (build-std).
# WASM_TOOLCHAIN=rustup or =debian insists on one of them.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

root=$(pwd -P)
manifest=${1:-crates/proxy-wasm}/Cargo.toml
package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -n 1)
# The file is named after the project, whatever the name of its package.
name=$package
[ $# != 0 ] || name=firstword
target=wasm32-unknown-unknown
# A target directory of its own: neither native builds nor another rustc make cargo build everything anew.
target_dir=$root/target/wasm

has_target() {
    libdir=$("${RUSTC:-rustc}" --print target-libdir --target "$target" 2>/dev/null) || return 1
    [ -n "$(find "$libdir" -name 'libstd-*.rlib' 2>/dev/null)" ]
}

# Tried once for each version of Rust: without a network it costs time and cannot succeed.
add_target() {
    command -v rustup >/dev/null || return 1
    sysroot=$("${RUSTC:-rustc}" --print sysroot)
    case $sysroot in "$(rustup show home)"/*) ;; *) return 1 ;; esac
    refused=$root/target/rustup-refused
    this="$sysroot $("${RUSTC:-rustc}" --version)"
    [ "$(cat "$refused" 2>/dev/null)" != "$this" ] || return 1
    say "adding rustup's target $target"
    RUST_BACKTRACE=0 RUSTUP_MAX_RETRIES=0 timeout 60 rustup --quiet target add "$target" && return 0
    say "rustup could not add the target; not trying again until 'make clean'"
    mkdir -p "$root/target"
    echo "$this" >"$refused"
    return 1
}

# The standard library's sources must belong to the compiler exactly.
has_debian() {
    command -v wasm-ld >/dev/null || return 1
    versions=$(dpkg-query -W -f='${db:Status-Status} ${Version}\n' rustc-web rust-web-src 2>/dev/null) || return 1
    [ "$(echo "$versions" | sort -u | wc -l)" = 1 ] && [ "${versions%% *}" = installed ]
}

need_rust
case ${WASM_TOOLCHAIN:-any} in
any) if has_target || add_target; then way=rustup; else way=debian; fi ;;
rustup)
    has_target || add_target || fail "no standard library for wasm32; run: rustup target add $target"
    way=rustup
    ;;
debian) way=debian ;;
*) fail "WASM_TOOLCHAIN is rustup or debian, not '$WASM_TOOLCHAIN'" ;;
esac

set -- --manifest-path "$manifest" --release --locked --lib --crate-type cdylib --target "$target" --target-dir "$target_dir"
# No path of this machine ends up in the module: the same source gives the same bytes anywhere.
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
    # build-std is an unstable option, also of the cargo that runs here.
    export RUSTC_BOOTSTRAP=1
    set -- "$@" -Zbuild-std=std,panic_abort
    say "building with Debian's $($RUSTC --version | cut -d' ' -f1-2) and build-std"
else
    say "building with $("${RUSTC:-rustc}" --version | cut -d' ' -f1-2) and its own $target"
fi
export CARGO_ENCODED_RUSTFLAGS="${flags%?}"

# For the metric build_info. Who builds from an archive of the source may say which commit it is of.
: "${FIRSTWORD_COMMIT:=$(scripts/commit.sh)}"
case $FIRSTWORD_COMMIT in
*[!a-z0-9_+./-]*) fail "FIRSTWORD_COMMIT becomes a label's value, of [a-z0-9_+./-] only: '$FIRSTWORD_COMMIT'" ;;
esac
export FIRSTWORD_COMMIT

# `cargo rustc` with one crate type: with two, Cargo skips link-time optimisation without a word.
cargo rustc "$@"

built=$target_dir/$target/release/$(echo "$package" | tr - _).wasm
module=$root/target/$name.wasm
# Left alone when nothing changed, and never seen half written by an Envoy that starts just now.
cmp -s "$built" "$module" || { cp "$built" "$module.new" && mv "$module.new" "$module"; }
say "target/$name.wasm: $(wc -c <"$module") bytes, sha256 $(sha256sum "$module" | cut -d' ' -f1)"
