#!/bin/sh
# Builds the command: target/firstword, one static binary for Linux, which runs on every distribution.
#
# The C library in it comes from the first of these that is available:
#   musl     rustup's target is installed, or `rustup target add` brings it;
#   glibc    the static library of this system.
# CLI_LIBC=musl or =glibc allows only that one. CLI_MACHINE=aarch64 or =x86_64 builds for the other processor, as
# target/firstword-MACHINE. That needs musl, and no C compiler for it: Rust's own linker and libraries are enough.
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
output=target/firstword
libc_wanted=${CLI_LIBC:-any}
case ${CLI_MACHINE:-$machine} in
"$machine") ;;
x86_64 | aarch64)
    machine=$CLI_MACHINE
    output=target/firstword-$machine
    libc_wanted=musl
    variable=$(echo "CARGO_TARGET_${machine}_UNKNOWN_LINUX_MUSL_LINKER" | tr a-z A-Z)
    export "$variable=rust-lld"
    ;;
*) fail "CLI_MACHINE is x86_64 or aarch64, not '$CLI_MACHINE'" ;;
esac
musl=$machine-unknown-linux-musl
case $libc_wanted in
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
if [ "$output" = target/firstword ]; then
    version=$("$built" --version) || fail "$built does not run"
else
    version="for $machine, not run here"
fi
cmp -s "$built" "$output" || { cp "$built" "$output.new" && mv "$output.new" "$output"; }
say "$output: $version, static, $(wc -c <"$output") bytes"
