#!/bin/sh
# Fuzzes each target of tests/fuzz with libFuzzer, for a number of seconds each: fuzz.sh [SECONDS [TARGET...]]
#
#   RECORD=1   write tests/fuzz/corpus/TARGET.tar.gz again: for each branch of the code, the smallest input that reaches it
#
# A run begins with the committed inputs in tests/fuzz/corpus, with those of earlier runs in target/fuzz/corpus/TARGET, and with
# the seeds that each target writes there. Fails if a target crashes, hangs or exceeds its memory, and prints the command that
# repeats it.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

seconds=${1:-60}
case $seconds in '' | *[!0-9]* | 0) fail "seconds is a number above 0, not '$seconds'" ;; esac
[ $# = 0 ] || shift
[ $# != 0 ] || set -- framer session connection tls proxy_protocol config escaping capture

need_rust
# libFuzzer is compiled from its C++ source.
command -v "${CXX:-c++}" >/dev/null || apt_install g++

root=$(pwd -P)
host=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
# The flags of cargo-fuzz for `--sanitizer none`. LLVM's coverage needs no nightly Rust. With --target, build scripts and
# procedural macros are compiled without these flags.
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\037' -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1)--cfg=fuzzing
export CARGO_ENCODED_RUSTFLAGS
cargo build --release --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz --target "$host"

log=$(mktemp)
scratch=$(mktemp -d)
trap 'rm -rf "$log" "$scratch"' EXIT

# Fails with the output of libFuzzer, and with the command that repeats the crash.
failed() {
    cat "$log"
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    fail "$target failed${input:+ on $input; to repeat it: $program $input}"
}

# Inputs of more than 16 KiB are slower and find nothing new.
run() {
    FUZZ_SEEDS=$root/$corpus "$program" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -artifact_prefix="$found/" \
        "$@" >"$log" 2>&1 || failed
}

for target in "$@"; do
    program=target/fuzz/$host/release/$target
    corpus=target/fuzz/corpus/$target
    found=target/fuzz/crashes/$target
    archive=tests/fuzz/corpus/$target.tar.gz
    committed=$scratch/$target
    mkdir -p "$corpus" "$found" "$committed"
    [ ! -e "$archive" ] || tar -xzf "$archive" -C "$committed"
    say "$target, for $seconds seconds"
    run -max_total_time="$seconds" -print_final_stats=1 "$corpus" "$committed"
    # Without the dictionary that libFuzzer proposes.
    grep -E '^(Done|stat::)|DONE' "$log"
    [ -n "${RECORD:-}" ] || continue
    # One input for each branch. With libFuzzer's counters of repetitions there are up to seven times as many.
    mkdir "$scratch/small"
    run -merge=1 -use_counters=0 "$scratch/small" "$committed" "$corpus"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$scratch/small" -c . | gzip -9n >"$archive"
    say "$archive: $(find "$scratch/small" -type f | wc -l) inputs, $(wc -c <"$archive") bytes"
    rm -r "$scratch/small"
done
