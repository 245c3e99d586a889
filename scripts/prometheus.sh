#!/bin/sh
# Gets Debian's Prometheus and promtool into target/tools, unpacked and not installed, because the package would start a service.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

tools=target/tools
mkdir -p "$tools"

if [ ! -x "$tools/prometheus" ] || [ ! -x "$tools/promtool" ]; then
    if prometheus=$(command -v prometheus) && promtool=$(command -v promtool); then
        ln -sfn "$prometheus" "$tools/prometheus"
        ln -sfn "$promtool" "$tools/promtool"
    else
        command -v apt-get >/dev/null || fail "prometheus and promtool are missing, and there is no apt-get to get them"
        say "fetching Prometheus (about 20 MB)"
        unpacked=$(mktemp -d "$tools/unpack.XXXXXX")
        trap 'rm -rf "$unpacked"' EXIT
        (cd "$unpacked" && apt-get download -qq prometheus && dpkg-deb -x ./*.deb .) ||
            fail "apt could not download prometheus; run: sudo apt-get update"
        mv "$unpacked/usr/bin/prometheus" "$unpacked/usr/bin/promtool" "$tools"
    fi
fi
say "$("$tools/prometheus" --version 2>&1 | head -n 1)"
