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

if [ ! -d "$rootfs" ]; then
    [ "$(id -u)" = 0 ] || fail "unpacking MariaDB needs root; run: sudo scripts/mariadb.sh"
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap
    say "fetching a newer MariaDB into $rootfs (about 20 seconds)"
    # Old lists of sid are accepted, as in scripts/mysql.sh. The packages are only unpacked.
    root_file_system "$rootfs" sid mariadb-server --variant=extract --aptopt='Acquire::Check-Valid-Until "false"'
    # Another process may have finished first.
    mv -T "$new" "$rootfs" 2>/dev/null || rm -rf "$new"
    [ -d "$rootfs" ] || fail "cannot keep $rootfs"
fi

# $1: the launcher's name, $2: the program, the rest: its further options.
launcher() {
    name=$tools/$1
    program=$2
    shift 2
    cat >"$name.new" <<LAUNCHER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/mariadb-rootfs
libraries=\$(echo "\$root"/usr/lib/*-linux-gnu)
exec "\$root"/usr/lib*/ld-linux-*.so.* --library-path "\$libraries" "\$root$program" "\$@" $*
LAUNCHER
    chmod 755 "$name.new"
    cmp -s "$name.new" "$name" && rm "$name.new" || mv "$name.new" "$name"
}

# shellcheck disable=SC2016 # expanded by the launcher
launcher new-mariadbd /usr/sbin/mariadbd '--basedir="$root/usr"' '--lc-messages-dir="$root/usr/share/mariadb"' \
    '--plugin-dir="$root/usr/lib/mysql/plugin"'
# shellcheck disable=SC2016 # expanded by the launcher
launcher new-mariadb /usr/bin/mariadb '--plugin-dir="$libraries/libmariadb3/plugin"'

version=$("$tools/new-mariadbd" --no-defaults --version 2>/dev/null) ||
    fail "MariaDB was fetched but does not run here; run: rm -rf $rootfs; make tools-mariadb"
say "${version#*/usr/sbin/}"
