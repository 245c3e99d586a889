#!/bin/sh
# Gets a newer MariaDB than this system's for some tests, from Debian's unstable release: one with parsec, and with clients that
# verify a server's certificate by the password. An existing one is used.
#
#   target/tools/mariadb-rootfs  its packages and their libraries, unpacked (about 300 MB); nothing on this system depends on it
#   target/tools/new-mariadbd    starts its server
#   target/tools/new-mariadb     starts its command-line client
#
# Making it needs root. Using it does not, because the programs run by their own dynamic loader, without chroot.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
rootfs=$tools/mariadb-rootfs
mkdir -p "$tools"

from_sid "$rootfs" mariadb-server 20 --variant=extract
# shellcheck disable=SC2016 # expanded by the launcher
launcher_of_sid "$tools/new-mariadbd" "$rootfs" /usr/sbin/mariadbd '--basedir="$root/usr"' \
    '--lc-messages-dir="$root/usr/share/mariadb"' '--plugin-dir="$root/usr/lib/mysql/plugin"'
# shellcheck disable=SC2016 # expanded by the launcher
launcher_of_sid "$tools/new-mariadb" "$rootfs" /usr/bin/mariadb '--plugin-dir="$libraries/libmariadb3/plugin"'

version=$("$tools/new-mariadbd" --no-defaults --version 2>/dev/null) ||
    fail "MariaDB was fetched but does not run here; run: rm -rf $rootfs; make tools-mariadb"
say "${version#*/usr/sbin/}"
