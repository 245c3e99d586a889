#!/bin/sh
# Runs the tests of envoy/docker-compose.yaml in a set of its own, and removes everything after them. Exits with 1 if a test
# fails.
#
# Uses a running engine. If there is none, starts one, as root, in its own network and mount namespaces, and removes it too.
# Uses images that exist or can be pulled, and makes stand-ins for others (scripts/standins.sh).
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

file=envoy/docker-compose.yaml
tools=$PWD/target/tools
data=$PWD/target/docker-$$
project=firstword-test-$$
run=$(mktemp -d /tmp/firstword-compose.XXXXXX)
engine=

# Built from its Dockerfile, and removed with the rest.
export CLIENT_IMAGE="firstword-client:$$"
# The tests run inside the set. Other programs may use the ports of the file.
export MARIADB_PORT=0 MYSQL_PORT=0 HAPROXY_PORT=0 ADMIN_PORT=0 PROMETHEUS_PORT=0 GRAFANA_PORT=0

compose() { "$tools/compose" --file "$file" --project-name "$project" "$@"; }

# Arguments: the command that starts the engine, with options.
start_engine() {
    # In a session of its own, because Ctrl-C must not end the engine before everything is removed.
    setsid "$@" --data-root "$data" --exec-root "$run/exec" --pidfile "$run/pid" --host "$DOCKER_HOST" >"$run/log" 2>&1 &
    engine=$!
    for _ in $(seq 300); do
        ! docker info >/dev/null 2>&1 || return 0
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$run/log" >&2
    fail "the Docker engine does not start"
}

# The engine ends containers and containerd first.
stop_engine() {
    kill "$engine" 2>/dev/null || :
    wait "$engine" || :
    engine=
}

take_down() {
    status=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    say "taking everything down"
    compose --profile '*' down --volumes --timeout 5 >"$run/down" 2>&1 || cat "$run/down" >&2
    # shellcheck disable=SC2046 # a list
    docker image rm --force "$CLIENT_IMAGE" $(docker image ls --quiet --filter label=firstword.standin) >/dev/null 2>&1
    if [ -n "$engine" ]; then
        stop_engine
        rm -rf "$data"
    fi
    rm -rf "$run"
    exit "$status"
}

[ -n "${FIRSTWORD_WASM:-}" ] || [ -e target/firstword.wasm ] || fail "the module is missing; run: make wasm"
scripts/docker.sh
trap take_down EXIT
trap 'exit 130' INT TERM

docker info >/dev/null 2>&1 || {
    say "starting a Docker engine"
    export DOCKER_HOST="unix://$run/socket" PATH="$tools/docker-rootfs/usr/sbin:$tools/docker-rootfs/usr/bin:$PATH"
    # Uses this machine's network to pull and to build. No container runs yet.
    start_engine unshare --mount dockerd --bridge=none --iptables=false
}

# Without variables the file is valid, and names the images that are written in it.
images() { sed -n 's/^ *\(image\|PYTHON_IMAGE\): //p' | sort -u; }
plain=$(env -i PATH="$PATH" HOME="${HOME:-/}" "$tools/compose" --file "$file" --profile '*' config) ||
    fail "docker compose refuses $file"
written=$(sed -n 's/.*_IMAGE:-\([^}]*\)}.*/\1/p' "$file" | sort -u)
[ "$(echo "$plain" | images)" = "$written" ] || fail "docker compose reads other images in $file than are written there"

official=
standins=
COMPOSE_PROFILES=grafana
for image in $(compose --profile '*' config | images | grep -Fvx "$CLIENT_IMAGE"); do
    standin=$(docker image inspect --format '{{index .Config.Labels "firstword.standin"}}' "$image" 2>/dev/null || echo none)
    if [ "$standin" = "" ] || docker pull --quiet "$image" >/dev/null 2>"$run/pull"; then
        official="$official $image"
        continue
    fi
    # A registry responds, and does not have the image.
    ! grep -q 'manifest unknown\|access denied\|does not exist' "$run/pull" || fail "$(cat "$run/pull")"
    case $image in
    */grafana:*) COMPOSE_PROFILES= ;;
    *) standins="$standins $image" ;;
    esac
done
export COMPOSE_PROFILES
# shellcheck disable=SC2086 # a list
[ -z "$standins" ] || scripts/standins.sh $standins
python=$(compose config | sed -n 's/^ *PYTHON_IMAGE: //p' | head -n 1)
docker build --quiet --network=host --build-arg "PYTHON_IMAGE=$python" --tag "$CLIENT_IMAGE" envoy/compose/client \
    >"$run/build" 2>&1 || fail "$(cat "$run/build")"

say "official images:${official:- none}; stand-ins for:${standins:- none}"
[ -n "$COMPOSE_PROFILES" ] || say "left out: Grafana (profile grafana), whose image cannot be pulled; its tests are skipped"

[ -z "$engine" ] || {
    stop_engine
    start_engine unshare --net --mount sh -c 'ip link set lo up && exec dockerd "$@"' dockerd
}
say "starting the set"
compose up --detach --wait --wait-timeout 300 --no-build --pull never >"$run/up" 2>&1 || {
    cat "$run/up" >&2
    compose ps --all >&2
    compose logs --no-color --tail 10 >&2
    fail "the set does not come up; when another one is up, take that down: their networks have the same addresses"
}
compose --progress quiet run --rm --no-TTY test || {
    compose logs --no-color --tail 10 >&2
    fail "tests failed"
}
