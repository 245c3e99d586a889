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

if [ ! -d "$rootfs" ]; then
    [ "$(id -u)" = 0 ] || fail "unpacking MySQL Router needs root; run: sudo scripts/router.sh"
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap
    say "fetching MySQL Router into $rootfs (about 10 seconds)"
    # Old lists of sid are accepted, as in scripts/mysql.sh. The package is only unpacked.
    root_file_system "$rootfs" sid mysql-router --variant=extract --aptopt='Acquire::Check-Valid-Until "false"'
    # Another process may have finished first.
    mv -T "$new" "$rootfs" 2>/dev/null || rm -rf "$new"
    [ -d "$rootfs" ] || fail "cannot keep $rootfs"
fi
cat >"$launcher.new" <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/router-rootfs
exec "$root"/usr/lib*/ld-linux-*.so.* --library-path "$(echo "$root"/usr/lib/*-linux-gnu):$root/usr/lib/mysql-router" \
    "$root/usr/bin/mysqlrouter" "$@"
END
chmod 755 "$launcher.new"
cmp -s "$launcher.new" "$launcher" && rm "$launcher.new" || mv "$launcher.new" "$launcher"

version=$("$launcher" --version) || fail "MySQL Router was fetched but does not run here; run: rm -rf $rootfs; scripts/router.sh"
say "$version"
