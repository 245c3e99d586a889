#!/bin/sh
# Gets MySQL Router 9.7 for `make bench`, from Debian's unstable release. An existing one is used.
#
#   target/tools/router-rootfs  its package and its libraries, unpacked (about 95 MB); nothing on this system depends on it
#   target/tools/mysqlrouter    starts it
#
# Making it needs root. Using it does not, because the program runs by its own dynamic loader, without chroot.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
rootfs=$tools/router-rootfs
launcher=$tools/mysqlrouter
mkdir -p "$tools"

from_sid "$rootfs" mysql-router 10 --variant=extract
launcher_of_sid "$launcher" "$rootfs" /usr/bin/mysqlrouter

version=$("$launcher" --version) || fail "MySQL Router was fetched but does not run here; run: rm -rf $rootfs; scripts/router.sh"
say "$version"
