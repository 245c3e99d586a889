#!/bin/sh
# Gets a real MySQL 9.7 for tests, from Debian's unstable release. An existing one is used.
#
#   target/tools/mysql-rootfs  a small Debian with mysql-server in it (about 730 MB); nothing on this system depends on it
#   target/tools/mysqld        starts its server
#   target/tools/mysql         starts its command-line client
#
# Making it needs root. Using it does not, because the programs run by their own dynamic loader, without chroot.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
rootfs=$tools/mysql-rootfs
mkdir -p "$tools"

from_sid "$rootfs" mysql-server 40
# shellcheck disable=SC2016 # expanded by the launcher
launcher_of_sid "$tools/mysqld" "$rootfs" /usr/sbin/mysqld '--basedir="$root/usr"' \
    '--lc-messages-dir="$root/usr/share/mysql"' '--plugin-dir="$root/usr/lib/mysql/plugin"'
launcher_of_sid "$tools/mysql" "$rootfs" /usr/bin/mysql

version=$("$tools/mysqld" --no-defaults --version 2>/dev/null) ||
    fail "MySQL was fetched but does not run here; run: rm -rf $rootfs; make tools-mysql"
say "${version#*/usr/sbin/}"
