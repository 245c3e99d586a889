#!/bin/sh
# Builds the native module: target/libfirstword.so, for this machine's kind of CPU.
#
#   scripts/native.sh            with the C compiler of the machine: it needs the glibc of the machine, or a newer one
#   scripts/native.sh portable   with the linker of zig, from PyPI: it needs glibc 2.28, and no libgcc_s.so.1
#                                NATIVE_MACHINE=aarch64 or =x86_64: for the other processor, as target/libfirstword-MACHINE.so
#   scripts/native.sh symbols    target/libfirstword-symbols.so for `make profile`: with the names of its functions
#   scripts/native.sh panics     target/libfirstword-panics.so for a test: it panics where the test asks for it
#
# The file is renamed into place, because Envoy maps it, and must not see another content.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

need_rust
root=$(pwd -P)
install() { cmp -s "$1" "$2" || { cp "$1" "$2.new" && mv "$2.new" "$2"; }; }

if [ "${1:-}" = panics ]; then
    # The tests' own profile and directory, which have the library already.
    cargo build --quiet --package firstword-dynamic-module --features inject-panics
    install target/debug/libfirstword_dynamic_module.so target/libfirstword-panics.so
    exit
fi

: "${FIRSTWORD_COMMIT:=$(scripts/commit.sh)}"
export FIRSTWORD_COMMIT
# The module contains no path of this machine. Less is inlined than by default: 2 % of the size for 1 to 3 % more instructions of
# the filter for a query.
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\037%s\037%s' \
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    "--remap-path-prefix=$root=/firstword" \
    -Cllvm-args=-inline-threshold=110)
export CARGO_ENCODED_RUSTFLAGS
# A target directory of its own, because of these flags.
target_dir=$root/target/native
way=${1:-machine}
machine=${NATIVE_MACHINE:-$(uname -m)}
module=target/libfirstword.so
[ "$machine" = "$(uname -m)" ] || module=target/libfirstword-$machine.so
case "$way $machine" in
"symbols $(uname -m)")
    export CARGO_PROFILE_NATIVE_STRIP=none CARGO_PROFILE_NATIVE_DEBUG=line-tables-only
    module=target/libfirstword-symbols.so
    target_dir=$root/target/native-symbols
    ;;
"machine $(uname -m)" | "portable x86_64" | "portable aarch64") ;;
*) fail "the argument is portable, symbols or panics, and NATIVE_MACHINE=x86_64 or =aarch64 is for portable only" ;;
esac
# One crate type, because with two Cargo silently skips link-time optimisation.
set -- rustc --manifest-path crates/dynamic-module/Cargo.toml --profile native --locked --lib --crate-type cdylib \
    --target-dir "$target_dir"
say "building with $("${RUSTC:-rustc}" --version | cut -d' ' -f1-2)"
case $way in
machine | symbols)
    # Without this each segment begins on a page of the file, which costs 12 KiB. The linker of zig does so by default.
    CARGO_ENCODED_RUSTFLAGS=$CARGO_ENCODED_RUSTFLAGS$(printf '\037')-Clink-arg=-Wl,-z,noseparate-code cargo "$@"
    built=$target_dir/native
    ;;
portable)
    zig=$root/target/tools/zig
    if [ ! -x "$zig/bin/cargo-zigbuild" ]; then
        command -v python3 >/dev/null || apt_install python3 python3-venv
        python3 -m venv --clear "$zig"
        "$zig/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --only-binary=:all: --require-hashes \
            --requirement scripts/zigbuild.txt || fail "no zig from PyPI"
    fi
    target=$machine-unknown-linux-gnu
    has_target "$target" || add_target "$target" || fail "no standard library for $target; run: rustup target add $target"
    PATH=$zig/bin:$PATH "$zig/bin/cargo-zigbuild" "$@" --target "$target.2.28"
    built=$target_dir/$target/native
    ;;
esac
install "$built/libfirstword_dynamic_module.so" "$module"
command -v readelf >/dev/null || apt_install binutils
headers=$(LC_ALL=C readelf --wide --file-header --dynamic --dyn-syms "$module") || fail "readelf cannot read $module"
case $headers in *envoy_dynamic_module_on_program_init*) ;; *) fail "$module exports no hook" ;; esac
glibc=$(echo "$headers" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
if [ "$way" = portable ]; then
    [ "$(printf '%s\n' GLIBC_2.28 "$glibc" | sort -V | tail -n 1)" = GLIBC_2.28 ] || fail "$module needs $glibc"
    case $headers in *libgcc_s*) fail "$module needs libgcc_s.so.1" ;; esac
fi
# What a ConfigMap of Kubernetes holds, as docs/native.md says.
size=$(wc -c <"$module")
[ "$way" = symbols ] || [ "$size" -le 1048576 ] || fail "$module has $size bytes, and a ConfigMap holds 1048576"
say "$module: for$(echo "$headers" | sed -n 's/^ *Machine: *\(.*\)/ \1/p'), $size bytes, needs $glibc, sha256" \
    "$(sha256sum "$module" | cut -d' ' -f1)"
