#!/bin/sh
# Gets the proxies that exchange PROXY headers with the filter in tests: Debian's HAProxy and nginx. They are unpacked and not
# installed, because the packages would start services. Existing ones are used.
#
#   target/tools/proxies  their packages, and the libraries that this system lacks, unpacked
#   target/tools/haproxy  starts HAProxy
#   target/tools/nginx    starts nginx with its stream module loaded
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
root=$tools/proxies
mkdir -p "$tools"

# All packages that an installation would add.
packages() {
    apt-get install --simulate --no-install-recommends haproxy nginx libnginx-mod-stream 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\) .*/\1/p'
}

# The three also by name, because an installation adds nothing if they are installed.
fetch() {
    command -v apt-get >/dev/null || fail "no apt-get to fetch haproxy and nginx with"
    apt-cache show haproxy >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || apt-get update -qq
    say "unpacking HAProxy and nginx (about 4 MB)"
    new=$(mktemp -d "$root.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    list=$(echo haproxy nginx libnginx-mod-stream "$(packages)" | xargs -n 1 | sort -u)
    # shellcheck disable=SC2086 # a list
    (cd "$new" && apt-get download -qq $list 2>/dev/null) ||
        fail "apt could not download haproxy and nginx; run: sudo apt-get update"
    for package in "$new"/*.deb; do
        dpkg-deb -x "$package" "$new"
        rm "$package"
    done
    chmod 755 "$new"
    # Another process may have finished first.
    mv -T "$new" "$root" 2>/dev/null || rm -rf "$new"
    [ -d "$root" ] || fail "cannot keep $root"
}

# $1: the name of the program, the rest: its further options.
launcher() {
    launcher=$tools/$1
    program=/usr/sbin/$1
    shift
    cat >"$launcher.new" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/proxies
LD_LIBRARY_PATH=\$(echo "\$root"/usr/lib/*-linux-gnu) exec "\$root$program" "\$@" $*
END
    chmod 755 "$launcher.new"
    cmp -s "$launcher.new" "$launcher" && rm "$launcher.new" || mv "$launcher.new" "$launcher"
}

[ -d "$root" ] || fetch
launcher haproxy
# shellcheck disable=SC2016 # expanded by the launcher
launcher nginx -g '"load_module $root/usr/lib/nginx/modules/ngx_stream_module.so;"'

haproxy=$("$tools/haproxy" -v) || fail "HAProxy was fetched but does not run here; run: rm -rf $root; make test"
nginx=$("$tools/nginx" -v 2>&1) || fail "nginx was fetched but does not run here; run: rm -rf $root; make test"
say "$(echo "$haproxy" | head -n 1), $nginx"
