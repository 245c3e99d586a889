#!/bin/sh
# Counts the instructions of the filter for a query, a connection and a connection that breaks the protocol, and compares
# them with the committed baseline.
#
#   BLESS=1   write a new baseline
#
# Callgrind counts the same for the same binary on any machine. Another compiler makes another binary, so the baseline names its
# compiler. With another compiler the comparison is printed and not judged.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

baseline=crates/proxy-wasm/benches/instructions/baseline.txt
few=1000
many=11000
# Percent of the baseline that one may take.
limit=102

command -v valgrind >/dev/null || apt_install valgrind
say "building"
binary=$(cargo bench --quiet --package firstword-proxy-wasm --bench instructions --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || fail "the bench was not built"
compiler=$("${RUSTC:-rustc}" --version | cut -d' ' -f2)

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
failed=
for scenario in connect hostile default full rules; do
    first=$(count "$scenario" "$few")
    second=$(count "$scenario" "$many")
    [ -n "$first" ] && [ -n "$second" ] || fail "callgrind counted nothing for $scenario"
    found=$(((second - first) / (many - few)))
    echo "$scenario $found $compiler" >>"$new"
    [ -z "${BLESS:-}" ] || continue
    was=$(sed -n "s/^$scenario \([0-9]*\) .*/\1/p" "$baseline")
    with=$(sed -n "s/^$scenario [0-9]* \(.*\)/\1/p" "$baseline")
    [ -n "$was" ] || fail "$baseline has no line for $scenario; write it with BLESS=1"
    say "$scenario: $found instructions, baseline $was ($((found * 100 / was)) %)"
    if [ "$with" != "$compiler" ]; then
        say "the baseline was counted with Rust $with, this is $compiler: not judged"
    elif [ $((found * 100)) -gt $((was * limit)) ]; then
        failed="$failed $scenario"
    fi
done
if [ -n "${BLESS:-}" ]; then
    cp "$new" "$baseline"
    cat "$baseline"
fi
[ -z "$failed" ] || fail "more than $limit % of the baseline:$failed"
