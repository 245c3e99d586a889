#!/bin/sh
# Builds the command: target/firstword, one static binary for Linux, which runs on every distribution.
#
# The C library in it comes from the first of these that is available:
#   musl     rustup's target is installed, or `rustup target add` brings it;
#   glibc    the static library of this system.
# CLI_LIBC=musl or =glibc allows only that one.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

system=$(uname -s)
machine=$(uname -m)
case "$system $machine" in
"Linux x86_64" | "Linux aarch64") ;;
*) fail "a static binary is for Linux on x86_64 or aarch64; on $system $machine run: cargo install --path crates/cli" ;;
esac
need_rust
musl=$machine-unknown-linux-musl
case ${CLI_LIBC:-any} in
any)
    libc=musl
    has_target "$musl" || add_target "$musl" || {
        libc=glibc
        say "no standard library for musl, so the binary has this system's C library; for musl run: rustup target add $musl"
    }
    ;;
musl)
    has_target "$musl" || add_target "$musl" || fail "no standard library for musl; run: rustup target add $musl"
    libc=musl
    ;;
glibc) libc=glibc ;;
*) fail "CLI_LIBC is musl or glibc, not '$CLI_LIBC'" ;;
esac
# Both link without shared libraries. For musl this is the default.
flags=-Ctarget-feature=+crt-static
target=$machine-unknown-linux-$([ $libc = musl ] && echo musl || echo gnu)
say "building with $("${RUSTC:-rustc}" --version | cut -d' ' -f1-2) for $target"
# A target directory of its own, so that other flags do not make cargo build everything again. With --target the flags are not
# for build scripts, which cannot be static.
CARGO_ENCODED_RUSTFLAGS=$flags cargo build --release --locked --package firstword-cli --target "$target" --target-dir target/cli
built=target/cli/$target/release/firstword

# A static binary names no program interpreter and no shared library.
command -v readelf >/dev/null || apt_install binutils
headers=$(LC_ALL=C readelf --wide --program-headers --dynamic "$built") || fail "readelf cannot read $built"
case $headers in
*INTERP* | *'(NEEDED)'*) fail "$built is not static: $(echo "$headers" | grep -e INTERP -e '(NEEDED)')" ;;
esac
version=$("$built" --version) || fail "$built does not run"
cmp -s "$built" target/firstword || { cp "$built" target/firstword.new && mv target/firstword.new target/firstword; }
say "target/firstword: $version, static, $(wc -c <target/firstword) bytes"
