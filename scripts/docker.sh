#!/bin/sh
# Gets a Docker engine and Docker Compose, if they are missing, for envoy/docker-compose.yaml. Debian's packages are unpacked and
# not installed, because they would start services. Existing programs are used.
#
#   target/tools/docker-rootfs   the engine's packages, unpacked; only if there is neither an engine nor a dockerd
#   target/tools/compose-rootfs  Compose, from Debian 13; only if there is none, or only version 1, which was in Python
#   target/tools/compose         starts Compose
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
mkdir -p "$tools"

# $1: the directory, the rest: the command that fills the directory in its last argument.
unpack() {
    directory=$1
    shift
    new=$(mktemp -d "$directory.XXXXXX")
    "$@" "$new" || {
        rm -rf "$new"
        return 1
    }
    chmod 755 "$new"
    # Another process may have finished first.
    mv -T "$new" "$directory" 2>/dev/null || rm -rf "$new"
    [ -d "$directory" ] || fail "cannot keep $directory"
}

# The client is a package of its own since Debian 13.
wanted() { apt-cache show docker-cli >/dev/null 2>&1 && echo docker.io docker-cli || echo docker.io; }

# All packages that an installation would add, except iptables, which the engine calls by its name in PATH.
engine_packages() {
    # shellcheck disable=SC2046 # a list
    apt-get install --simulate --no-install-recommends $(wanted) 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\) .*/\1/p' | grep -vx iptables
}

fetch_engine() (
    list=$(echo "$(wanted)" "$(engine_packages)" | xargs -n 1 | sort -u)
    cd "$1"
    # shellcheck disable=SC2086 # a list
    apt-get download -qq $list 2>/dev/null || exit 1
    for package in ./*.deb; do
        dpkg-deb -x "$package" .
        rm "$package"
    done
)

fetch_compose() {
    mmdebstrap --quiet --variant=extract --include=docker-compose trixie "$1"
}

if ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and starting one needs root"
    missing=
    command -v iptables >/dev/null || missing=iptables
    command -v ip >/dev/null || missing="$missing iproute2"
    # shellcheck disable=SC2086 # a list
    [ -z "$missing" ] || apt_install $missing
    if ! command -v dockerd >/dev/null && [ ! -d "$tools/docker-rootfs" ]; then
        command -v apt-get >/dev/null || fail "no apt-get to fetch a Docker engine with"
        apt-cache show docker.io >/dev/null 2>&1 || apt-get update -qq
        say "fetching the Docker engine (about 65 MB)"
        unpack "$tools/docker-rootfs" fetch_engine ||
            fail "apt could not download docker.io; run: sudo apt-get update"
    fi
fi

if docker compose version >/dev/null 2>&1; then
    set -- docker compose
else
    plugin=$tools/compose-rootfs/usr/libexec/docker/cli-plugins/docker-compose
    if [ ! -x "$plugin" ]; then
        command -v mmdebstrap >/dev/null || apt_install mmdebstrap
        say "fetching Docker Compose (about 20 MB)"
        unpack "$tools/compose-rootfs" fetch_compose || fail "mmdebstrap could not fetch docker-compose from Debian 13"
    fi
    set -- "$PWD/$plugin"
fi
printf '#!/bin/sh\nexec %s "$@"\n' "$*" >"$tools/compose.$$"
chmod 755 "$tools/compose.$$"
mv "$tools/compose.$$" "$tools/compose"
say "$("$tools/compose" version)"
