# Functions for the other scripts: messages, Debian packages, the check for Rust and its targets, Go.

say() { echo "${0##*/}: $*"; }

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Installs Debian packages, all at once. Fetches the package lists only if they are missing or stale.
# Never removes a package, because the machine has other users.
apt_install() {
    command -v apt-get >/dev/null || fail "this system has no apt-get; install by other means: $*"
    [ "$(id -u)" = 0 ] || fail "missing packages; run: sudo apt-get install --no-install-recommends $*"
    say "installing by apt: $*"
    apt_quiet "$@" 2>/dev/null || {
        say "fetching the package lists first"
        apt-get update -qq || fail "apt-get update failed"
        apt_quiet "$@" || fail "apt could not install: $*"
    }
}

apt_quiet() {
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-remove --no-install-recommends \
        -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold "$@" >/dev/null
}

# $1: directory, $2: release of Debian, $3: packages, the rest: options. Makes a root file system. Tries twice, because a mirror
# or the set-up of a package can fail once.
root_file_system() {
    where=$1
    release=$2
    packages=$3
    shift 3
    for attempt in 1 2; do
        # Renamed only when complete, so that an interrupted run leaves no incomplete file system.
        new=$(mktemp -d "$where.XXXXXX")
        if mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Retries "3"' "$@" --include="$packages" "$release" "$new"; then
            chmod 755 "$new"
            return
        fi
        rm -rf "$new"
        say "attempt $attempt to fetch $packages from Debian $release failed"
    done
    fail "mmdebstrap could not fetch $packages from Debian $release"
}

# $1: directory, $2: package, $3: seconds, the rest: options of mmdebstrap. Gets a package of Debian's unstable release with its
# libraries, unless the directory exists. Needs root.
#
# The package lists of sid are valid for one week, and many mirrors have older ones. apt still checks their signature. An old list
# can only bring an older package into this root file system, which only tests run.
from_sid() {
    [ ! -d "$1" ] || return 0
    [ "$(id -u)" = 0 ] || fail "fetching $2 from Debian's unstable release needs root"
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap
    say "fetching $2 into $1 (about $3 seconds)"
    target=$1
    package=$2
    shift 3
    root_file_system "$target" sid "$package" --aptopt='Acquire::Check-Valid-Until "false"' "$@"
    # Another process may have finished first.
    mv -T "$new" "$target" 2>/dev/null || rm -rf "$new"
    [ -d "$target" ] || fail "cannot keep $target"
}

# $1: path of the launcher, $2: directory from from_sid beside it, $3: the program in it, the rest: its further options. Writes a
# script that starts the program by its own dynamic loader. $libraries in an option is the directory of its libraries. MySQL Router
# has some in a directory of its own.
launcher_of_sid() {
    launcher=$1
    directory=$(basename "$2")
    program=$3
    shift 3
    cat >"$launcher.new" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/$directory
libraries=\$(echo "\$root"/usr/lib/*-linux-gnu)
exec "\$root"/usr/lib*/ld-linux-*.so.* --library-path "\$libraries:\$root/usr/lib/mysql-router" "\$root$program" "\$@" $*
END
    chmod 755 "$launcher.new"
    cmp -s "$launcher.new" "$launcher" && rm "$launcher.new" || mv "$launcher.new" "$launcher"
}

# Runs a command in a Go module of its own, with a cache under $tools that it removes: no file in the home directory changes.
in_go() {
    command -v go >/dev/null || apt_install golang-go
    cache=$(mktemp -d "$tools/go.XXXXXX")
    status=0
    (mkdir "$cache/in" && cd "$cache/in" && echo 'module fetch' >go.mod &&
        GOPATH=$cache GOBIN=$cache GOFLAGS=-modcacherw GOCACHE=$cache/build "$@") || status=$?
    rm -rf "$cache"
    return $status
}

# Requires a Go that can fetch the newer one that the modules of $1 ask for.
need_go() {
    command -v go >/dev/null || fail "Go 1.26 or newer is needed to build $1: https://go.dev/dl"
    oldest=$(printf '%s\n1.21\n' "$(go env GOVERSION | sed 's/^go//')" | sort -V | head -n 1)
    [ "$oldest" = 1.21 ] || fail "$(go version) is too old to build $1: Go 1.21 and newer can fetch the Go 1.26 that is needed"
}

# $1: program, $2: version, $3: package, $4: what building it takes, $5: `new` if Debian's Go is too old for it. Builds a Go program
# as target/tools/PROGRAM, unless this version exists.
go_program() {
    program=$1 version=$2 package=$3
    tools=$(pwd -P)/target/tools
    built=$tools/$program-$version
    mkdir -p "$tools"
    install_program() {
        CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "$package@$version" && mv "$cache/$program" "$built"
    }
    [ -x "$built" ] || {
        [ "${5:-}" != new ] || need_go "$program"
        say "building $program $version ($4)"
        in_go install_program || fail "go could not build $program"
    }
    ln -sfn "$program-$version" "$tools/$program"
    say "$program $version"
}

# Requires Cargo of version $1, or of the version in Cargo.toml, or newer; and the C linker that rustc calls for native programs.
need_rust() {
    command -v cargo >/dev/null && command -v "${RUSTC:-rustc}" >/dev/null ||
        fail "Rust is missing; run: curl -sSf https://sh.rustup.rs | sh   (https://rustup.rs)"
    wanted=${1:-$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)}
    found=$("${RUSTC:-rustc}" --version) || fail "Rust is installed but does not run; run: rustup default stable"
    found=$(echo "$found" | cut -d' ' -f2)
    oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
    [ "$oldest" = "$wanted" ] || fail "Rust $found is too old, $wanted or newer is needed; run: rustup update stable"
    command -v cc >/dev/null || apt_install gcc libc6-dev
}

# True if rustc has the standard library for the target $1.
has_target() {
    libdir=$("${RUSTC:-rustc}" --print target-libdir --target "$1" 2>/dev/null) || return 1
    [ -n "$(find "$libdir" -name 'libstd-*.rlib' 2>/dev/null)" ]
}

# Adds the standard library for the target $1 by rustup. Tried once for each version of Rust, because it takes time and cannot
# succeed without a network.
add_target() {
    command -v rustup >/dev/null || return 1
    sysroot=$("${RUSTC:-rustc}" --print sysroot)
    case $sysroot in "$(rustup show home)"/*) ;; *) return 1 ;; esac
    refused=target/rustup-refused-$1
    this="$sysroot $("${RUSTC:-rustc}" --version)"
    [ "$(cat "$refused" 2>/dev/null)" != "$this" ] || return 1
    say "adding rustup's target $1"
    RUST_BACKTRACE=0 RUSTUP_MAX_RETRIES=0 timeout 60 rustup --quiet target add "$1" && return 0
    say "rustup could not add the target; not trying again until 'make clean'"
    mkdir -p target
    echo "$this" >"$refused"
    return 1
}
