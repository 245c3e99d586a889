#!/bin/sh
# Makes stand-ins for official images if no registry can be reached: Debian's programs, with the features that
# envoy/docker-compose.yaml uses. Arguments: official names. Each image gets its official name, and the label firstword.standin.
# Keeps root file systems in target/tools/images. Needs root, and an engine.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# $1: the name of a root file system, $2: its release of Debian, $3: packages, the rest: further options of mmdebstrap.
# Several images share one.
debian() {
    tar=$tools/images/$1.tar
    name=$1 release=$2 packages=$3
    shift 3
    if [ ! "$tar" -nt scripts/standins.sh ]; then
        command -v mmdebstrap >/dev/null || apt_install mmdebstrap
        say "making a root file system of Debian $release"
        mkdir -p "$tools/images"
        # Only for sid, because its package lists are often expired (scripts/mysql.sh).
        [ "$release" != sid ] || set -- --aptopt='Acquire::Check-Valid-Until "false"' "$@"
        mmdebstrap --quiet --variant=minbase \
            --dpkgopt=force-unsafe-io --include="$packages" "$@" "$release" "$tar.$$.tar" || {
            rm -f "$tar.$$.tar"
            fail "mmdebstrap could not install $packages from Debian $release"
        }
        # Renamed only when complete.
        mv "$tar.$$.tar" "$tar"
    fi
    present "$name" || import "$name" <"$tar"
}

present() { docker image inspect "firstword-standin:$1" >/dev/null 2>&1; }

# From a tar on the standard input.
import() { docker import --change "LABEL firstword.standin=true" - "firstword-standin:$1" >/dev/null; }

# $1: the image, $2: the directory that COPY is from. The Dockerfile is on the standard input.
image() { docker build --quiet --tag "$1" --file - "$2" >"$log" 2>&1 || fail "$1: $(cat "$log")"; }

# MariaDB of the official image's version, and a C library that is old enough for Envoy.
stable() {
    # shellcheck disable=SC2016 # mmdebstrap's shell expands it
    debian stable bookworm mariadb-server-core,mariadb-client-core \
        --customize-hook='chroot "$1" useradd --system mysql'
}

# Versions near those of the official images. pip may install packages for the whole system, and trusts the certificates that
# this machine trusts.
unstable() {
    # shellcheck disable=SC2016 # mmdebstrap's shell expands it
    debian unstable sid haproxy,prometheus,python3,python3-pip,python-is-python3,ca-certificates \
        --customize-hook='rm "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
        --customize-hook='upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt' \
        --customize-hook='mkdir -m 1777 "$1/prometheus"'
}

# The exact version in the name.
envoy() {
    stable
    version=${1##*:v}
    ENVOY_VERSION=$version scripts/tools.sh >/dev/null
    image "$1" "$(dirname "$(readlink -f "$tools/envoy-$version")")" <<'END'
FROM firstword-standin:stable
COPY envoy /usr/local/bin/
USER 101:101
END
}

mariadb() {
    stable
    image "$1" scripts <<'END'
FROM firstword-standin:stable
COPY standin-database.sh /
ENTRYPOINT ["sh", "/standin-database.sh"]
END
}

mysql() {
    scripts/mysql.sh >/dev/null
    present mysql || tar -c -C "$tools/mysql-rootfs" --exclude=./dev . | import mysql
    image "$1" scripts <<'END'
FROM firstword-standin:mysql
COPY standin-database.sh /
ENTRYPOINT ["sh", "/standin-database.sh"]
END
}

haproxy() {
    unstable
    image "$1" scripts <<'END'
FROM firstword-standin:unstable
USER nobody
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
END
}

prometheus() {
    unstable
    image "$1" scripts <<'END'
FROM firstword-standin:unstable
USER nobody
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
END
}

python() {
    unstable
    docker tag firstword-standin:unstable "$1"
}

[ "$(id -u)" = 0 ] || fail "making root file systems needs root"
for name; do
    case $name in
    envoyproxy/envoy:*) envoy "$name" ;;
    mariadb:*) mariadb "$name" ;;
    mysql:*) mysql "$name" ;;
    haproxy:*) haproxy "$name" ;;
    prom/prometheus:*) prometheus "$name" ;;
    python:*) python "$name" ;;
    *) fail "nothing to make $name from" ;;
    esac
done
