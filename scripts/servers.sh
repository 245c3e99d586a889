#!/bin/sh
# Gets further servers and programs for some tests. Existing ones are used.
#
#   target/tools/servers-rootfs  a small Debian with OpenSSH, OpenSMTPD and vsftpd in it (about 200 MB). Nothing on this
#                                system depends on it, and no service is started.
#   target/tools/envoy-1.38.3    an Envoy that was built without V8
#   target/tools/venv            Python with gRPC (grpcio)
#   curl, openssl                in PATH
#   dumpcap (tshark)             in PATH; only as root, because captures need root
#
# Making the root file system and running its servers, by chroot, needs root. Without root they are left out.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

rootfs=target/tools/servers-rootfs

fetch_rootfs() {
    [ ! -d "$rootfs" ] || return 0
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap
    say "fetching SSH, SMTP and FTP servers into $rootfs (about 20 seconds)"
    root_file_system "$rootfs" bookworm openssh-server,opensmtpd,vsftpd
    # Directories for the servers' chroot. Their services would make them.
    mkdir -p "$new/run/sshd" "$new/run/vsftpd/empty"
    # The SMTP server looks up its clients' names before it greets, and must not wait for a resolver.
    echo "lookup file" >"$new/etc/resolv.conf"
    printf '%s\n' listen=YES listen_address=127.0.0.1 background=NO >"$new/etc/vsftpd-test.conf"
    cat >"$new/etc/smtpd-test.conf" <<'END'
listen on 127.0.0.1 port $port hostname mail.test
action "deliver" maildir
match from local for local action "deliver"
END
    # Another process may have finished first.
    mv -T "$new" "$rootfs" 2>/dev/null || rm -rf "$new"
    [ -d "$rootfs" ] || fail "cannot keep $rootfs"
}

missing=
for program in curl openssl; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ "$(id -u)" != 0 ] || command -v dumpcap >/dev/null || missing="$missing tshark"
# shellcheck disable=SC2086 # a list
[ -z "$missing" ] || apt_install $missing
# grpcio goes where tools.sh keeps the Python that it fetches with.
WITHOUT_V8=1 ENVOY_VERSION=1.38.3 scripts/tools.sh >/dev/null
target/tools/venv/bin/python -c 'import grpc' 2>/dev/null || {
    say "fetching gRPC for Python (about 8 MB)"
    target/tools/venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary=:all: \
        --require-hashes --requirement scripts/grpcio.txt || fail "no grpcio from PyPI"
}
[ "$(id -u)" != 0 ] || fetch_rootfs
