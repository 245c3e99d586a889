#!/bin/sh
# Connects several times, runs a few statements and ignores all errors, because the server is hostile. $1 is the
# folder with `client`, $2 is its option for no TLS.
client=$1/client
export MYSQL_PWD="$6"
login="--no-defaults $2 --host=$3 --port=$4 --user=$5"
times=$9
while [ "$times" -gt 0 ]; do
    times=$((times - 1))
    # shellcheck disable=SC2086 # several words
    printf 'SELECT 1;\nDO 0;\nSELECT 1;\nUSE x;\n\\s\nSELECT 1;\n' |
        timeout 10 "$client" $login --force --local-infile=1 --connect-timeout=5 "$7" >/dev/null 2>&1
done
