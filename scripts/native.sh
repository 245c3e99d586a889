#!/bin/sh
# Builds the native module: target/libfirstword.so, for this machine's kind of CPU.
#
#   scripts/native.sh            with the C compiler of the machine: it needs the glibc of the machine, or a newer one
#   scripts/native.sh portable   with the linker of zig, from PyPI: it needs glibc 2.28, and no libgcc_s.so.1
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
# The module contains no path of this machine.
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\037%s' \
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    "--remap-path-prefix=$root=/firstword")
export CARGO_ENCODED_RUSTFLAGS
# A target directory of its own, because of these flags.
target_dir=$root/target/native
way=${1:-machine}
# One crate type, because with two Cargo silently skips link-time optimisation.
set -- rustc --manifest-path crates/dynamic-module/Cargo.toml --profile native --locked --lib --crate-type cdylib \
    --target-dir "$target_dir"
say "building with $("${RUSTC:-rustc}" --version | cut -d' ' -f1-2)"
case $way in
machine)
    cargo "$@"
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
    target=$(uname -m)-unknown-linux-gnu
    PATH=$zig/bin:$PATH "$zig/bin/cargo-zigbuild" "$@" --target "$target.2.28"
    built=$target_dir/$target/native
    ;;
*) fail "the argument is portable or panics, not '$way'" ;;
esac
module=target/libfirstword.so
install "$built/libfirstword_dynamic_module.so" "$module"
glibc=$(grep -ao 'GLIBC_[0-9.]*' "$module" | sort -Vu | tail -n 1)
say "$module: $(wc -c <"$module") bytes, needs $glibc, sha256 $(sha256sum "$module" | cut -d' ' -f1)"
