#!/bin/sh
# Runs all tests that can run on this machine. Prints the sums of all targets, and the names of the tests that are left out.
#
# Modules with tests have the name of their requirement: needs_mysqld, needs_netns, needs_root, needs_drivers,
# needs_cluster. Cargo ignores them by default. `make test-drivers` and `make test-hazards` run those that need drivers,
# `make test-cluster` those that need a cluster.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

skip="--skip needs_drivers --skip needs_cluster"
left=
leave_out() {
    skip="$skip --skip $1"
    left="${left:+$left, }$2"
}

[ -e target/tools/mysqld ] || leave_out needs_mysqld "the tests against MySQL (run: sudo make tools-mysql)"
[ "$(id -u)" = 0 ] ||
    leave_out needs_root "the tests of SSH, SMTP and FTP servers, and those that capture (run: sudo make test)"
unshare --net true 2>/dev/null || leave_out needs_netns "the tests in network namespaces (run: sudo make test-istio)"

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
echo 1 >"$run/status"
{
    # shellcheck disable=SC2086 # a list
    (set -x; cargo test -- --include-ignored $skip) && echo 0 >"$run/status" || echo $? >"$run/status"
} | tee "$run/output"
sums=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored; .* \([0-9]*\) filtered out.*/\1 \2 \3 \4/p' \
    "$run/output" | awk '{ passed += $1; failed += $2; ignored += $3; out += $4 }
        END { printf "%d passed, %d failed, %d ignored, %d filtered out", passed, failed, ignored, out }')

status=$(cat "$run/status")
if [ "$status" = 0 ]; then
    if [ "$(scripts/commit.sh)" != unknown ]; then
        scripts/reproduce.sh || status=$?
    else
        left="${left:+$left, }two builds from clean clones (there is no commit to clone)"
    fi
fi
[ -z "$left" ] || echo "make test: left out $left"
echo "make test: $sums"
exit "$status"
