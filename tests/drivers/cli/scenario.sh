#!/bin/sh
# Scenario with command-line clients. $1 is the folder with `client`, `admin` and `dump`, $2 their option for no TLS, $3 their
# option for TLS, $4 the one for TLS that verifies the server.
set -eu
programs=$1
case ${11} in plain) tls=$2 ;; tls) tls=$3 ;; default) tls= ;; /*) tls="$4 --ssl-ca=${11}" ;; esac
shift
export MYSQL_PWD="$7"
database=$8
file=$9
scratch=$(mktemp)
trap 'rm "$scratch"' EXIT
login="--no-defaults $tls --host=$4 --port=$5 --user=$6"

# shellcheck disable=SC2086 # several words
client() { "$programs/client" $login --max-allowed-packet=64M --local-infile=1 --init-command='SET NAMES utf8mb4' "$@"; }
sql() { client --batch --skip-column-names "$database" "$@"; }
# Joins the rows in one line.
rows() { tr '\t' ' ' | awk '{ printf "%s%s", separator, $0; separator = " / " } END { print NR ? "" : "-" }'; }
say() { echo "$1 $(rows)"; }
fails() { sql --execute="$2" 2>&1 | sed -n "s/^ERROR \([0-9]*\) .*/$1 \1/p"; }
numbers() { awk '{ sum += $1 } END { printf "%d %.0f\n", NR, sum }' | say "$1"; }
xs() { head -c 17000000 /dev/zero | tr '\0' x; }

# `mariadb  Ver 15.1 Distrib 10.11.19-MariaDB, ...` or `mysql  Ver 9.7.4-2 for ...`.
"$programs/client" --version | sed -E 's/.*(Ver|Distrib) ([0-9][^ ,]*).*/driver \2/'
sql --execute='SELECT i, u, d, f, day, at, t, LOWER(HEX(b)) FROM kinds' | say text

prepare="PREPARE p FROM 'SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id'; SET @most = 100"
sql --execute="$prepare; SET @least = 1; EXECUTE p USING @least, @most" | say prepared
sql --execute="$prepare; SET @least = 5; EXECUTE p USING @least, @most" | say prepared-empty
fails missing-table 'SELECT * FROM nosuch'
fails syntax-error 'SELECT FROM'

values=$(seq 100 | awk '{ printf "%s(%d, %s)", separator, $1, $1 % 2 ? "\"name\"" : "NULL"; separator = ", " }')
sql --execute="INSERT INTO batch VALUES $values; SELECT COUNT(*), SUM(id), COUNT(name) FROM batch" | say batch
insert="START TRANSACTION; INSERT INTO batch VALUES (101, 'last')"
sql --execute="$insert; ROLLBACK; SELECT COUNT(*) FROM batch" | say rolled-back
sql --execute="$insert; COMMIT; SELECT COUNT(*) FROM batch" | say committed
sql --execute='CALL two_results(5, @out); SELECT @out' | awk 'NR < 4' | say call
sql --execute='CALL two_results(5, @out); SELECT @out' | awk 'NR == 4' | say out

sql --execute="SELECT REPEAT('0123456789abcdef', 1048577)" | tr -d '\n' >"$scratch"
echo "field $(wc -c <"$scratch") $(md5sum <"$scratch" | cut -d' ' -f1)"
sql --quick --execute='SELECT n FROM numbers' | numbers rows
{ echo "SELECT SHA2('" && xs && echo "', 256)"; } | tr -d '\n' | sql | say parameter
sql --execute="LOAD DATA LOCAL INFILE '$file' INTO TABLE loaded; SELECT COUNT(*), SUM(id) FROM loaded" | say infile
# Through a file, because loading drops the table that is being dumped.
# shellcheck disable=SC2086 # several words
"$programs/dump" $login --no-tablespaces "$database" dumped >"$scratch"
sql <"$scratch"
sql --execute='SELECT COUNT(*), SUM(n) FROM dumped' | say dump
# shellcheck disable=SC2086 # several words
"$programs/admin" $login ping | sed 's/mysqld is alive/ok/' | say ping

# In a terminal, the client also queries names for completion. Its output there is not compared.
echo 'SELECT 1; exit' | script --quiet --return --command "$programs/client $login $database" /dev/null >/dev/null
