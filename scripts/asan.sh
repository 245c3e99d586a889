#!/bin/sh
# Runs the native module in a fake Envoy under AddressSanitizer: each fault of memory ends the run with a report, and so does a
# leak, or undefined behaviour of the fake Envoy.
#
# Instrumented: the fake Envoy (C), the module and all its packages (Rust). Not instrumented: Rust's standard library, whose
# allocations and copies are watched nevertheless, because they go through malloc and memcpy.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

need_rust
work=target/asan
host=$work/host
target=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
mkdir -p "$work"

say "building"
# The flag is unstable, but each stable compiler has it, and this variable allows it. With --target, build scripts are compiled
# without it.
RUSTC_BOOTSTRAP=1 CARGO_ENCODED_RUSTFLAGS=-Zsanitizer=address cargo build --quiet --locked --package firstword-dynamic-module \
    --features inject-panics --target "$target" --target-dir "$work"
# Exports the functions of the fake Envoy to the module, as Envoy does.
"${CC:-cc}" -std=gnu11 -Wall -Wextra -Werror -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
    -rdynamic -o "$host" crates/dynamic-module/tests/asan/host.c crates/dynamic-module/tests/asan/main.c -ldl -pthread
say "running"
ASAN_OPTIONS=detect_stack_use_after_return=1:detect_leaks=1 "$host" \
    "$work/$target/debug/libfirstword_dynamic_module.so" tests/captures/*.cap
say "no fault of memory"
