#!/bin/sh
# Gets drivers of tests/drivers ready, those named as arguments: their packages into target/drivers, in the versions that
# tests/drivers pins (Debian's packages: the release's), and a program for each, target/drivers/bin/NAME.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

root=$(pwd -P)
sources=$root/tests/drivers
built=$root/target/drivers
mkdir -p "$built/bin"

# $1: driver; the rest: the command it is, which gets the program's arguments.
program() {
    name=$1
    shift
    { echo '#!/bin/sh' && echo "exec env $* \"\$@\""; } >"$built/bin/$name.new"
    chmod +x "$built/bin/$name.new"
    mv "$built/bin/$name.new" "$built/bin/$name"
}

need() { command -v "$1" >/dev/null || { shift && apt_install "$@"; }; }

# Does what was made of $2 and $3 stand in $1 as it was made?
made() { [ "$(cat "$1/made-of" 2>/dev/null)" = "$(cat "$2" "$3" | sha256sum)" ]; }
make_note() { cat "$2" "$3" | sha256sum >"$1/made-of"; }

python() {
    venv=$built/python
    pins=$sources/python/requirements.txt
    made "$venv" "$pins" "$pins" || {
        need python3 python3 python3-venv
        python3 -m venv --clear "$venv" >/dev/null 2>&1 || {
            # Debian's own python3 comes without ensurepip.
            apt_install python3-venv
            /usr/bin/python3 -m venv --clear "$venv"
        }
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps -r "$pins"
        make_note "$venv" "$pins" "$pins"
    }
    program "$1" "PYTHONDONTWRITEBYTECODE=1 $venv/bin/python $sources/python/$2"
}

prepare() {
    case $1 in
    pymysql) python "$1" pymysql_.py ;;
    mysql-connector-python) python "$1" mysql_connector.py ;;
    *) fail "there is no driver $1" ;;
    esac
}

for driver in "$@"; do
    # `set -e` is off in what is tested, so a shell of its own.
    (set -e && prepare "$driver") && continue
    fail "driver $driver cannot be installed"
done
