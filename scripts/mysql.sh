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

fetch_rootfs() {
    [ ! -d "$rootfs" ] || return 0
    [ "$(id -u)" = 0 ] || fail "making MySQL's root file system needs root; run: sudo make tools-mysql"
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap
    say "fetching MySQL into $rootfs (about 40 seconds)"
    # The package lists of sid are valid for one week, and many mirrors have older ones. apt still checks their signature. An
    # old list can only bring an older package into this root file system, which only tests run.
    root_file_system "$rootfs" sid mysql-server --aptopt='Acquire::Check-Valid-Until "false"'
    # Another process may have finished first.
    mv -T "$new" "$rootfs" 2>/dev/null || rm -rf "$new"
    [ -d "$rootfs" ] || fail "cannot keep $rootfs"
}

# $1: the launcher's name, $2: the program, the rest: its further options.
launcher() {
    name=$tools/$1
    program=$2
    shift 2
    cat >"$name.new" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/mysql-rootfs
exec "\$root"/usr/lib*/ld-linux-*.so.* --library-path "\$(echo "\$root"/usr/lib/*-linux-gnu)" "\$root$program" "\$@" $*
END
    chmod 755 "$name.new"
    cmp -s "$name.new" "$name" && rm "$name.new" || mv "$name.new" "$name"
}

fetch_rootfs
# shellcheck disable=SC2016 # expanded by the launcher
launcher mysqld /usr/sbin/mysqld '--basedir="$root/usr"' '--lc-messages-dir="$root/usr/share/mysql"' \
    '--plugin-dir="$root/usr/lib/mysql/plugin"'
launcher mysql /usr/bin/mysql

version=$("$tools/mysqld" --no-defaults --version 2>/dev/null) ||
    fail "MySQL was fetched but does not run here; run: rm -rf $rootfs; make tools-mysql"
say "${version#*/usr/sbin/}"
