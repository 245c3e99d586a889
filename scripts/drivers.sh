#!/bin/sh
# Installs the drivers of tests/drivers that the arguments name. Their packages go into target/drivers, in the versions that
# tests/drivers pins (Debian's packages: the release's version).
#
#   target/drivers/bin/NAME        the program of a driver
#   target/drivers/bin/again-NAME  for a driver that can send files: connects several times and ignores errors
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

root=$(pwd -P)
sources=$root/tests/drivers
built=$root/target/drivers
mkdir -p "$built/bin"

# $1: driver; the rest: its command, which gets the program's arguments.
program() {
    name=$1
    shift
    { echo '#!/bin/sh' && echo "exec env $* \"\$@\""; } >"$built/bin/$name.new"
    chmod +x "$built/bin/$name.new"
    mv "$built/bin/$name.new" "$built/bin/$name"
}

# $1: a program; the rest: Debian's packages that contain it.
need() { command -v "$1" >/dev/null || { shift && apt_install "$@"; }; }

# Succeeds if $1 was made from these files. Else empties it and fails.
made_from() {
    directory=$1
    shift
    made_of=$(cat "$@" | sha256sum)
    [ "$(cat "$directory/made-of" 2>/dev/null)" = "$made_of" ] || { rm -rf "$directory" && mkdir "$directory" && return 1; }
}
made() { echo "$made_of" >"$directory/made-of"; }

for_python() {
    venv=$built/python
    made_from "$venv" "$sources/python/requirements.txt" || {
        need python3 python3 python3-venv
        python3 -m venv "$venv" >/dev/null 2>&1 || {
            # Debian's own python3 comes without ensurepip.
            apt_install python3-venv
            /usr/bin/python3 -m venv --clear "$venv"
        }
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
            --require-hashes --requirement "$sources/python/requirements.txt"
        made
    }
    # The C library has its own OpenSSL. Python must not load another one before it.
    vendor=$(echo "$venv"/lib/python3*/site-packages/mysql/vendor)
    python="PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=$vendor $venv/bin/python $sources/python"
    program "$1" "$python/$2"
    program "again-$1" "$python/again.py $3"
}

for_go() {
    need go golang-go
    (cd "$sources/go" && go build -buildvcs=false -o "$built/bin/go-sql-driver" .)
    (cd "$sources/go" && go build -buildvcs=false -o "$built/bin/again-go-sql-driver" ./again)
}

for_rust() {
    need_rust
    cargo build --quiet --locked --manifest-path "$sources/rust/Cargo.toml" --target-dir "$built/rust"
    program "$1" "$built/rust/debug/firstword-drivers $1"
    [ "$1" = sqlx ] || program "again-$1" "$built/rust/debug/firstword-drivers again"
}

for_node() {
    need node nodejs
    need npm npm
    modules=$built/node
    made_from "$modules" "$sources/node/package.json" "$sources/node/package-lock.json" || {
        cp "$sources/node/package.json" "$sources/node/package-lock.json" "$modules"
        (cd "$modules" && npm ci --silent --ignore-scripts)
        made
    }
    node="NODE_PATH=$modules/node_modules $(command -v node) $sources/node"
    program "$1" "$node/$2"
    program "again-$1" "$node/again.js ${2%.js}"
}

for_php() {
    need php php-cli
    php -m | grep -q mysqli || apt_install php-mysql
    php="$(command -v php) -d memory_limit=512M -d mysqli.allow_local_infile=1 $sources/php"
    program "$1" "$php/$2"
    program "again-$1" "$php/again.php ${2%.php}"
}

for_perl() {
    perl "-MDBD::$2" -e 1 2>/dev/null || apt_install "libdbd-$(echo "$2" | tr '[:upper:]' '[:lower:]')-perl"
    program "$1" "$(command -v perl) $sources/perl/dbi.pl $2"
    program "again-$1" "$(command -v perl) $sources/perl/again.pl $2"
}

# Fetches the artifacts that the pom $2 names into $1. Maven checks the checksums of its server. SHA256SUMS next to the pom has
# the expected ones.
maven() {
    need java default-jdk-headless
    need mvn maven
    jars=$1
    sums=$(dirname "$2")/SHA256SUMS
    made_from "$jars" "$2" "$sums" || {
        mvn --quiet --batch-mode --strict-checksums -Dstyle.color=never -f "$2" dependency:copy -DoutputDirectory="$jars"
        (cd "$jars" && sha256sum --quiet --strict --check "$sums") || fail "$2 brought other files than $sums names"
        made
    }
}

# $2: the kind of URL; $3: the jar.
for_java() {
    maven "$built/java" "$sources/java/pom.xml"
    program "$1" "$(command -v java) -Xmx1g -cp $jars/$3 $sources/java/Scenario.java $2"
    program "again-$1" "$(command -v java) -Xmx512m -cp $jars/$3 $sources/java/Again.java $2"
}

# Programs hazard-VERSION and login-VERSION for each Connector/J of tests/hazards.
for_hazards() {
    maven "$built/hazards" "$root/tests/hazards/java/pom.xml"
    classes=$jars/classes
    javac -d "$classes" "$root"/tests/hazards/java/*.java
    for jar in "$jars"/*.jar; do
        version=${jar##*-}
        program "hazard-${version%.jar}" "$(command -v java) -Xmx512m -cp $classes:$jar Prepares"
        program "login-${version%.jar}" "$(command -v java) -Xmx128m -cp $classes:$jar Login"
    done
}

# Command-line clients. $2: the option for no TLS, $3: the option for TLS, $4: the option for TLS that verifies the server.
cli() {
    need script bsdutils
    program "$1" "$sources/cli/scenario.sh $built/$1 $2 $3 $4"
    program "again-$1" "$sources/cli/again.sh $built/$1 $2"
}

for_mariadb() {
    need mariadb-dump mariadb-client
    mkdir -p "$built/$1"
    for name in client:mariadb admin:mariadb-admin dump:mariadb-dump; do
        ln -sfn "$(command -v "${name#*:}")" "$built/$1/${name%:*}"
    done
    cli "$1" --skip-ssl --ssl --ssl-verify-server-cert
}

# A program of MySQL's root file system, run by its dynamic loader. $2: the program, $3: its name there, the rest: its options.
mysql_program() {
    directory=$built/$1
    started="$(echo "$rootfs"/usr/lib*/ld-linux-*.so.*) --library-path $(echo "$rootfs"/usr/lib/*-linux-gnu) $rootfs/usr/bin/$3"
    name=$2
    shift 3
    # --no-defaults, its first argument, must stay the first.
    cat >"$directory/$name" <<END
#!/bin/sh
first=\$1
shift
exec $started "\$first" --plugin-dir=$rootfs/usr/lib/mysql/plugin --get-server-public-key $* "\$@"
END
    chmod +x "$directory/$name"
}

for_mysql() {
    rootfs=$(readlink -f target/tools/mysql-rootfs)
    [ -d "$rootfs" ] || fail "MySQL is missing; run: make tools-mysql"
    mkdir -p "$built/$1"
    mysql_program "$1" client mysql
    mysql_program "$1" admin mysqladmin
    # MariaDB has neither option.
    mysql_program "$1" dump mysqldump --column-statistics=0 --set-gtid-purged=OFF
    cli "$1" --ssl-mode=DISABLED --ssl-mode=REQUIRED --ssl-mode=VERIFY_IDENTITY
}

prepare() {
    case $1 in
    pymysql) for_python "$1" pymysql_.py pymysql ;;
    mysql-connector-python) for_python "$1" "mysql_connector.py pure" pure ;;
    mysql-connector-python-c) for_python "$1" "mysql_connector.py c" c ;;
    php-mysqli) for_php "$1" mysqli.php ;;
    php-pdo) for_php "$1" pdo.php ;;
    perl-mysql) for_perl "$1" mysql ;;
    perl-mariadb) for_perl "$1" MariaDB ;;
    mariadb-java-*) for_java "$1" mariadb "mariadb-java-client-${1#mariadb-java-}.jar" ;;
    connector-j-5.*) for_java "$1" mysql "mysql-connector-java-${1#connector-j-}.jar" ;;
    connector-j-*) for_java "$1" mysql "mysql-connector-j-${1#connector-j-}.jar" ;;
    hazards) for_hazards ;;
    mariadb-cli) for_mariadb "$1" ;;
    mysql-cli) for_mysql "$1" ;;
    mysql_async | sqlx) for_rust "$1" ;;
    go-sql-driver) for_go ;;
    mysql2) for_node "$1" mysql2.js ;;
    mariadb-node) for_node "$1" mariadb.js ;;
    *) fail "there is no driver $1" ;;
    esac
}

trap '[ $? = 0 ] || say "driver $driver cannot be installed" >&2' EXIT
for driver in "$@"; do
    prepare "$driver"
done
