#!/bin/sh
# Test suites of drivers, for scripts/suites.sh. get_NAME fetches a suite. run_NAME runs it against 127.0.0.1:3306 and the Unix
# socket $socket, as root without a password. $server is mariadb or mysql, and $run is a folder for files.
set -eu
cd "$(dirname "$0")/../.."
. scripts/common.sh

sources=$(pwd -P)/target/suites/drivers
mkdir -p "$sources"

# Go: github.com/go-sql-driver/mysql
get_go_sql_driver() {
    version=v1.10.1
    [ ! -d "$sources/go-sql-driver" ] || return 0
    (cd tests/drivers/go && go mod download "github.com/go-sql-driver/mysql@$version" && go mod download all)
    cp -r "$(go env GOMODCACHE)/github.com/go-sql-driver/mysql@$version" "$sources/go-sql-driver"
    chmod -R u+w "$sources/go-sql-driver"
    (cd "$sources/go-sql-driver" && go mod download && go test -c -o suite .)
}
run_go_sql_driver() {
    cd "$sources/go-sql-driver"
    MYSQL_TEST_USER=root MYSQL_TEST_PASS='' MYSQL_TEST_ADDR=127.0.0.1:3306 ./suite -test.v -test.timeout 300s
}

# Fetches the sources and tests of a package into $sources/PACKAGE. $1 is the package on PyPI and its version. The other arguments
# are packages that its tests need.
python() {
    package=${1%==*}
    [ ! -d "$sources/$package" ] || return 0
    new=$(mktemp -d "$sources/$package.XXXXXX")
    python3 -m venv "$new/venv"
    "$new/venv/bin/pip" install --quiet --disable-pip-version-check --upgrade setuptools wheel
    "$new/venv/bin/pip" install --quiet --disable-pip-version-check pytest setuptools_scm poetry-core "$@"
    "$new/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-binary "$package" \
        --dest "$new" "$1"
    tar -xzf "$new"/*.tar.gz -C "$new" --strip-components=1
    mv -T "$new" "$sources/$package"
}
# Runs the tests with the installed package, not with the folder of its sources.
pytest() {
    directory=$1
    shift
    cd "$directory"
    "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
}

# The last version with its tests.
get_pymysql() {
    python PyMySQL==0.9.3 cryptography
    grep -rl unittest2 "$sources/PyMySQL/pymysql" | xargs -r sed -i 's/import unittest2$/import unittest/; s/unittest2/unittest/g'
}
run_pymysql() {
    venv=$sources/PyMySQL/venv
    printf '%s' '[{"host": "127.0.0.1", "user": "root", "password": "", "db": "test_pymysql", "use_unicode": true, "local_infile": true},
        {"host": "127.0.0.1", "user": "root", "password": "", "db": "test_pymysql2"}]' >"$sources/PyMySQL/pymysql/tests/databases.json"
    pytest "$sources/PyMySQL" pymysql/tests
}

get_aiomysql() { python aiomysql==0.3.2 uvloop sqlalchemy==1.4.54; }
run_aiomysql() {
    venv=$sources/aiomysql/venv
    pytest "$sources/aiomysql" --import-mode=importlib tests --mysql-unix-socket "$socket"
}

get_mysqlclient() {
    dpkg -s libmariadb-dev >/dev/null 2>&1 || apt_install libmariadb-dev gcc pkg-config
    python mysqlclient==2.3.2
}
run_mysqlclient() {
    venv=$sources/mysqlclient/venv
    printf '[MySQLdb-tests]\nhost=127.0.0.1\nuser=root\ndatabase=test\ndefault-character-set=utf8mb4\nlocal-infile=1\n' >"$run/client.cnf"
    TESTDB=$run/client.cnf pytest "$sources/mysqlclient/tests" .
}

get_cymysql() { python cymysql==1.1.2; }
run_cymysql() {
    venv=$sources/cymysql/venv
    pytest "$sources/cymysql" cymysql/tests
}

get_mysql_connector_python() { python mysql-connector-python==26.10.0; }
run_mysql_connector_python() {
    cd "$sources/mysql-connector-python"
    venv/bin/python unittests.py --use-external-server --host 127.0.0.1 --port 3306 --user root --password '' --verbosity 1
}

# Perl: the tests of DBD::MariaDB, from the sources of Debian's package.
get_perl_mariadb() {
    perl -MDBD::MariaDB -e 1 2>/dev/null || apt_install libdbd-mariadb-perl
    [ ! -d "$sources/DBD-MariaDB" ] || return 0
    new=$(mktemp -d "$sources/DBD-MariaDB.XXXXXX")
    mkdir -p "$new/apt/lists/partial"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb-src [signed-by=$key] http://deb.debian.org/debian sid main" >"$new/apt/sources.list"
    set -- -qq -o Dir::Etc::sourcelist="$new/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$new/apt/lists" \
        -o APT::Sandbox::User=root
    apt-get "$@" update
    (cd "$new" && apt-get "$@" source --download-only --tar-only libdbd-mariadb-perl)
    tar -xzf "$new"/*.orig.tar.gz -C "$new" --strip-components=1
    mv -T "$new" "$sources/DBD-MariaDB"
}
run_perl_mariadb() {
    cd "$sources/DBD-MariaDB"
    DBI_DSN='DBI:MariaDB:database=test;host=127.0.0.1;port=3306' DBI_USER=root DBI_PASS='' prove -I. -It t
}

# Rust: the crate mysql. Its sources include its tests.
get_rust_mysql() {
    [ ! -d "$sources/rust-mysql" ] || return 0
    crate=$(find "${CARGO_HOME:-$HOME/.cargo}"/registry/src -maxdepth 2 -name 'mysql-28.*' | sort | tail -n 1)
    cp -r "$crate" "$sources/rust-mysql"
    cd "$sources/rust-mysql"
    printf '\n[workspace]\n' >>Cargo.toml
    # A file that the crate lacks.
    mkdir -p tests/fixtures
    openssl genrsa 2048 2>/dev/null | openssl rsa -pubout -out tests/fixtures/server-public-key.pem 2>/dev/null
    cargo test --quiet -j1 --no-run
}
run_rust_mysql() {
    cd "$sources/rust-mysql"
    DATABASE_URL=mysql://root@127.0.0.1:3306/mysql cargo test -j1 --lib -- --test-threads=1
}

names() { sed -n 's/^get_\([a-z_]*\)() .*/\1/p' tests/suites/drivers.sh; }

"$@"
