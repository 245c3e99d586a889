#!/bin/sh
# The entry point of the stand-ins for the images of MariaDB and MySQL (scripts/standins.sh). It supports the features that
# envoy/docker-compose.yaml uses. On an empty data directory a server without a network runs /docker-entrypoint-initdb.d, and
# root gets its password. Arguments are the server's.
set -eu

data=/data
if command -v mariadbd >/dev/null; then
    client=mariadb
    password=$MARIADB_ROOT_PASSWORD
    set -- mariadbd --no-defaults --user=mysql --datadir="$data" "$@"
    prepare="mariadb-install-db --no-defaults --user=mysql --auth-root-authentication-method=normal"
else
    client=mysql
    password=$MYSQL_ROOT_PASSWORD
    set -- mysqld --no-defaults --user=mysql --datadir="$data" "$@"
    prepare="mysqld --no-defaults --user=mysql --initialize-insecure"
fi

ask() { "$client" --no-defaults --user=root --socket="$data/init.sock" "$@"; }

if [ ! -e "$data/ready" ]; then
    mkdir -p "$data" /run/mysqld
    chown mysql "$data" /run/mysqld
    $prepare --datadir="$data"
    "$@" --skip-networking --socket="$data/init.sock" &
    until ask --execute="SELECT 1" >/dev/null 2>&1; do
        kill -0 $! || exit 1
        sleep 0.2
    done
    for file in /docker-entrypoint-initdb.d/*.sql; do
        ask <"$file"
    done
    ask --execute="CREATE USER root@'%' IDENTIFIED BY '$password'; GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION"
    kill $!
    wait $!
    touch "$data/ready"
fi
exec "$@"
