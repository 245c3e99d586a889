#!/bin/sh
# Runs all tests that can run on this machine, with the wasm module. Then runs one scenario of each feature with the native
# module. Prints the sums of all targets, and the names of the tests that are left out.
#
# SHELL_UNDER_TEST=native runs all tests with real peers that can pass with the native module, and nothing else.
#
# Modules with tests have the name of their requirement: needs_mysqld, needs_new_mariadb, needs_netns, needs_root, needs_drivers,
# needs_cluster, needs_book, needs_cosign, needs_egctl, needs_krew. Cargo ignores them by default. `make test-drivers` and
# `make test-hazards` run those that need drivers, `make test-cluster` those that need a cluster.
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
[ -e target/tools/new-mariadbd ] || leave_out needs_new_mariadb "the tests of parsec (run: sudo make tools-mariadb)"
[ -e target/book/index.html ] || leave_out needs_book "the links of the book (run: make docs)"
[ -e target/tools/cosign ] || leave_out needs_cosign "the signatures of a release (run: scripts/cosign.sh)"
[ -e target/tools/egctl ] || leave_out needs_egctl "the recipe for Envoy Gateway, translated by it (run: scripts/egctl.sh)"
[ "$(id -u)" = 0 ] ||
    leave_out needs_root "the tests of SSH, SMTP and FTP servers, and those that capture (run: sudo make test)"
unshare --net true 2>/dev/null || leave_out needs_netns "the tests in network namespaces (run: sudo make test-istio)"

# One of each feature. tests/envoy/native.rs has the others.
scenarios="
    closing::each_ending_equals first_bytes::other_protocols invalid_configuration::a_bad_configuration
    invalid_configuration::a_new_proxy invalid_configuration::the_environment labels::series_have_the_configured
    large_packets reload::a_refused_configuration reload::the_mode_of reload::connections_outlive reload::the_gauge_of_rejected
    session::the_shipped_file server_first
    commands::mariadb::local_infile_is_counted transparency::the_filters_counts_equal users::rbac_judges_a_login
    users::the_access_log
    receive::each_mode shipped_files::proxy_send_sends shipped_files::proxy_receive_strips"
# What only wasm has: restricted host calls, and a configuration that arrives as the bytes of a Struct.
only_wasm="--skip capability_restriction --skip invalid_configuration::a_struct --skip native::"
# The targets whose tests take the module from FIRSTWORD_SHELL.
both_shells="--test envoy --test mysql --test proxy_protocol"

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
echo 0 >"$run/status"
: >"$run/output"

# Runs cargo test with these arguments, all targets also after a failure. Keeps its output, and its status if it fails.
tests() {
    { (set -x; cargo test --no-fail-fast "$@") || echo $? >"$run/status"; } | tee -a "$run/output"
}

scripts/native.sh panics
scripts/wasm.sh traps
# shellcheck disable=SC2086 # lists
if [ "${SHELL_UNDER_TEST:-wasm}" = native ]; then
    export FIRSTWORD_SHELL=native
    tests $both_shells -- --include-ignored $skip $only_wasm
else
    tests -- --include-ignored $skip
    FIRSTWORD_SHELL=native tests $both_shells -- $scenarios
fi
sums=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored; .* \([0-9]*\) filtered out.*/\1 \2 \3 \4/p' \
    "$run/output" | awk '{ passed += $1; failed += $2; ignored += $3; out += $4 }
        END { printf "%d passed, %d failed, %d ignored, %d filtered out", passed, failed, ignored, out }')

status=$(cat "$run/status")
if [ "$status" = 0 ] && [ "${SHELL_UNDER_TEST:-wasm}" = wasm ]; then
    if [ "$(scripts/commit.sh)" != unknown ]; then
        scripts/reproduce.sh || status=$?
    else
        left="${left:+$left, }two builds from clean clones (there is no commit to clone)"
    fi
fi
[ -z "$left" ] || echo "make test: left out $left"
echo "make test: $sums"
exit "$status"
