#!/bin/sh
# Suites of drivers, for scripts/suites.sh: get_NAME fetches one, run_NAME runs it against 127.0.0.1:3306 and the Unix socket $socket as
# root without a password. $server is mariadb or mysql, $run a directory for files.
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

"$@"
