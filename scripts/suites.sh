#!/bin/sh
# Runs test suites of servers and drivers through the filter, in a network namespace, and counts lost connections (desync).
#
#   scripts/suites.sh mariadb [FILTER] [OPTIONS OF mariadb-test-run]
#   scripts/suites.sh mysql [FILTER] [OPTIONS OF mysql-test-run]
#   scripts/suites.sh driver mariadb|mysql NAME [FILTER]     NAME: of tests/suites/drivers.sh
#   scripts/suites.sh all [mariadb] [mysql] [NAME...]        the main suites and all drivers, or those
#
# FILTER: full (inspects, changes nothing), changing (every setting that changes bytes), none (Envoy without the filter).
#
#   target/suites/mariadb-rootfs   a small Debian with MariaDB's own suite (about 1 GB)
#   target/suites/mysql-rootfs     the same with MySQL's (about 2 GB)
#   target/suites/RUN/             output, Envoy's log and the filter's metrics of a run
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

suites=$(pwd -P)/target/suites
# Short, because MySQL refuses long paths of sockets.
shared=/run/fw
# The ports of the servers of mariadb-test-run with this "build thread", and the port to which connections to them are redirected.
# They are not numbers of SQL states, because tests print those.
build_thread=610
first_port=16000
last_port=28999
redirected=15001
most_servers=8

configuration() {
    case $1 in
    full) rule= ;;
    changing) rule='"hold_split_eof": "always", "block_local_infile": true, "clear_capabilities": ["compress", "zstd"]' ;;
    none) return ;;
    *) fail "unknown filter setting: $1" ;;
    esac
    rules=${rule:+"{\"protocol\": \"mysql\", \"mysql\": {$rule}}"}
    echo "{\"rules\": [$rules], \"defaults\": {\"protocol\": \"mysql\"}, \"log\": {\"max_per_minute\": 60000}," \
        '"metrics": {"profile": "full", "labels": [], "max_series": 20000}}'
}

# Differences between the products.
product() {
    case $1 in
    mariadb)
        program=mariadbd
        tests=/usr/share/mysql/mysql-test
        main=mariadb-test-run.pl
        ;;
    mysql)
        program=mysqld
        tests=/usr/lib/mysql-test
        main=mysql-test-run.pl
        ;;
    *) fail "unknown server: $1" ;;
    esac
    rootfs=$suites/$1-rootfs
}

fetch() {
    product "$1"
    [ ! -d "$rootfs" ] || return 0
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap
    say "fetching the suite of $1 into $rootfs"
    mkdir -p "$suites"
    new=$(mktemp -d "$rootfs.XXXXXX")
    mirror=http://deb.debian.org
    case $1 in
    mariadb)
        set -- mariadb-test bookworm "$new" "deb $mirror/debian bookworm main" \
            "deb $mirror/debian-security bookworm-security main"
        ;;
    mysql) set -- mysql-testsuite --aptopt='Acquire::Check-Valid-Until "false"' sid "$new" ;;
    esac
    package=$1
    shift
    mmdebstrap --quiet --variant=minbase --include="$package,netbase,openssl,patch" "$@" || {
        rm -rf "$new"
        fail "mmdebstrap could not fetch $package"
    }
    chmod 755 "$new"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$new/etc/hosts"
    # MySQL's main program expects its own programs in the server's directory.
    for own in "$new"/usr/lib/mysql-test/bin/*; do
        [ ! -e "$own" ] || [ -e "$new/usr/bin/${own##*/}" ] || ln -s "../lib/mysql-test/bin/${own##*/}" "$new/usr/bin"
    done
    mv -T "$new" "$rootfs"
}

# Puts Envoy's socket into the configuration that the suite's main program writes for clients. The server listens on another one.
put_envoy_before_sockets() {
    sed -i "/^sub fix_socket/,/^}/s|\"\$dir/\$group_name.sock\"|\"$shared/\$group_name.sock\"|" \
        "$rootfs$tests/lib/My/ConfigFactory.pm"
    # Skips a check, because Envoy makes all ports appear to be in use.
    perl -0pi -e 's/^sub check_ports_free \(\$\)\s*\{\K(?! return)/ return 1;/m' "$rootfs$tests/$main"
    server=/usr/sbin/$program
    # A directory next to which the server finds its files.
    real=/usr/sbin-real/$program
    [ -e "$rootfs$real" ] || { mkdir -p "$rootfs${real%/*}" && mv "$rootfs$server" "$rootfs$real"; }
    cat >"$rootfs$server" <<END
#!/bin/sh
group=
for option; do
    case \$option in
    --defaults-group-suffix=.*) group=\${option#*=.} ;;
    --bootstrap | --initialize* | --help) group= && break ;;
    esac
done
exec $real "\$@" \${group:+--socket=$shared/server/mysqld.\$group.sock}
END
    chmod 755 "$rootfs$server"
}

# $1: the module; $2: the filter's setting; the rest: the listeners.
bootstrap() {
    module=$1
    setting=$2
    shift 2
    python3 tests/suites/bootstrap.py "$module" "$(configuration "$setting")" "$@"
}

# The arguments are the command that starts it.
start_envoy() {
    "$@" --disable-hot-restart --concurrency 1 --log-level warning >"$run/envoy.log" 2>&1 &
    for _ in $(seq 100); do
        ! curl --silent --fail http://127.0.0.1:9901/ready >/dev/null || return 0
        sleep 0.1
    done
    fail "Envoy does not start: $run/envoy.log"
}

metrics() { curl --silent 'http://127.0.0.1:9901/stats/prometheus?filter=wasmcustom' | grep '^firstword_'; }

# Prints the sum of a metric over the labels that match $2.
sum() { grep "^$1{.*${2:-}" "$run/metrics" | awk '{ n += $NF } END { printf "%d\n", n }'; }

# The filter exports its metrics once a second. Connections that it lost are also in the log.
summary() {
    [ "$setting" != none ] || return 0
    sleep 3
    metrics >"$run/metrics" && grep -q '^firstword_connections_total{' "$run/metrics" || fail "no connection came to the filter: $run"
    desyncs=$(sum firstword_opaque_total 'reason="desync"')
    say "$(sum firstword_connections_total) connections, $(sum firstword_commands_total) commands, $desyncs connections lost (desync)"
    sed -n 's/^firstword_opaque_total{\(.*\)} \([^0].*\)/  opaque \1: \2/p' "$run/metrics"
    [ "$desyncs" = 0 ] && ! grep -q 'event=opaque reason=desync' "$run/envoy.log"
}

# Runs in the namespaces. $1: the server's product; $2: the filter's setting; the rest: options of the suite's main program.
inside_server() {
    product "$1"
    setting=$2
    shift 2
    ip link set lo up
    mount -t proc proc "$rootfs/proc"
    mount -t tmpfs tmpfs "$rootfs/tmp"
    mount -t tmpfs -o mode=1777 tmpfs "$rootfs/mnt"
    mkdir -p "$rootfs$shared"
    mount -t tmpfs tmpfs "$rootfs$shared"
    touch "$rootfs$shared/envoy" "$rootfs$shared/firstword.wasm"
    mount --bind "$(readlink -f target/tools/envoy)" "$rootfs$shared/envoy"
    mount --bind target/firstword.wasm "$rootfs$shared/firstword.wasm"
    mkdir "$rootfs$shared/server"
    chmod 777 "$rootfs$shared" "$rootfs$shared/server" "$rootfs/tmp"
    user=$(chroot "$rootfs" id -u mysql)
    group=$(chroot "$rootfs" getent group daemon | cut -d: -f3)
    # Not ::1, because no server listens there, and a client tries 127.0.0.1 only after a refusal.
    iptables -t nat -A OUTPUT -p tcp -o lo -m owner --uid-owner "$user" ! --gid-owner "$group" \
        --dport $first_port:$last_port -j REDIRECT --to-ports $redirected
    listeners="0.0.0.0:$redirected=original_dst"
    for number in $(seq $most_servers); do
        listeners="$listeners $shared/mysqld.$number.sock=$shared/server/mysqld.$number.sock"
    done
    # Envoy runs as the user of the suite, because a server checks the peer of a Unix socket. It has another group, because
    # connections of that group are not redirected.
    # shellcheck disable=SC2086 # a list
    bootstrap $shared/firstword.wasm "$setting" $listeners >"$rootfs$shared/envoy.json"
    start_envoy chroot --userspec=mysql:daemon "$rootfs" $shared/envoy --config-path $shared/envoy.json
    # A server that a test starts itself must not replace Envoy's sockets.
    chown root "$rootfs$shared"/*.sock
    chmod 1777 "$rootfs$shared"
    # shellcheck disable=SC2086 # a list
    chroot --userspec=mysql:mysql "$rootfs" sh -c "cd $tests"' && exec "$@"' sh \
        perl ./$main --vardir=/mnt/var --build-thread=$build_thread --parallel=1 --force --max-test-fail=0 --retry=0 \
        --timestamp --timer --suite-timeout=600 --testcase-timeout=4 "$@" >"$run/output" 2>&1 || :
    cp -r "$rootfs/mnt/var/log" "$run/log" || :
    grep -aq '^Completed: ' "$run/output" || fail "the suite did not run to its end: $run/output"
    grep -a '^Completed: \|^Failing test' "$run/output" | tail -n 5
    summary
}

# Starts a server on a port that only Envoy uses. Accounts: root without a password, and those that tests/suites/drivers.sh needs.
start_server() {
    data=$(mktemp -d)
    trap 'rm -rf "$data"' EXIT
    own="--no-defaults --user=root --datadir=$data/data --port=13306 --socket=$data/server.sock --bind-address=127.0.0.1 --local-infile=1
        --log-bin=log --server-id=1 --max-connections=500"
    # shellcheck disable=SC2086 # a list
    case $1 in
    mariadb)
        mariadb-install-db --no-defaults --user=root --datadir="$data/data" --auth-root-authentication-method=normal \
            --skip-test-db --force >/dev/null 2>&1
        target/tools/mariadbd $own --init-file="$PWD/tests/suites/accounts.sql" >"$run/server.log" 2>&1 &
        ;;
    mysql)
        target/tools/mysqld --no-defaults --user=root --datadir="$data/data" --initialize-insecure >/dev/null 2>&1
        target/tools/mysqld $own --mysqlx=OFF --tls-version= --secure-file-priv= --init-file="$PWD/tests/suites/accounts.sql" >"$run/server.log" 2>&1 &
        ;;
    esac
    for _ in $(seq 300); do
        ! mariadb --no-defaults --skip-ssl -h127.0.0.1 -P13306 -uroot test2 -e 'DO 1' 2>/dev/null || return 0
        sleep 0.1
    done
    fail "the server does not start: $run/server.log"
}

# Runs in the namespaces. $1: the server's product; $2: the filter's setting; $3: the driver.
inside_driver() {
    setting=$2
    ip link set lo up
    socket=$run/mysql.sock
    bootstrap target/firstword.wasm "$2" 127.0.0.1:3306=127.0.0.1:13306 "$socket=127.0.0.1:13306" >"$run/envoy.json"
    start_server "$1"
    start_envoy target/tools/envoy --config-path "$run/envoy.json"
    export server=$1 socket run
    sh tests/suites/drivers.sh "run_$3" >"$run/output" 2>&1 || say "the suite of $3 has failures with $1"
    tail -n 3 "$run/output"
    summary
}

# $1: the name of the run; the rest: the command for the namespaces.
isolated() {
    run=$suites/$1
    rm -rf "$run"
    mkdir -p "$run"
    shift
    run=$run unshare --net --mount --pid --fork --kill-child sh scripts/suites.sh "$@"
}

[ "$(id -u)" = 0 ] || fail "needs root, and to make network namespaces"
command=$1
shift
case $command in
mariadb | mysql)
    setting=${1:-full}
    [ $# = 0 ] || shift
    fetch "$command"
    put_envoy_before_sockets
    isolated "${RUN:-$command-$setting}" inside_server "$command" "$setting" "$@"
    ;;
driver)
    # The server, the driver and the setting.
    sh tests/suites/drivers.sh "get_$2"
    isolated "${RUN:-$2-$1-${3:-full}}" inside_driver "$1" "${3:-full}" "$2"
    ;;
all)
    # Continues after a suite with failures. Fails at the end if a run lost a session.
    lost=
    for suite in ${*:-mariadb mysql $(sh tests/suites/drivers.sh names)}; do
        case $suite in
        mariadb | mysql) sh scripts/suites.sh "$suite" full --suite=main || lost="$lost $suite" ;;
        *)
            for server in mariadb mysql; do
                sh scripts/suites.sh driver "$server" "$suite" || lost="$lost $suite/$server"
            done
            ;;
        esac
    done
    [ -z "$lost" ] || fail "see target/suites:$lost"
    ;;
inside_*) "$command" "$@" ;;
*) fail "unknown suite: $command" ;;
esac
