#!/bin/sh
# Pictures of pages of the book, light and dark, wide and narrow, into target/book-screenshots: to look at, because no test sees
# what a table does to a narrow page.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

[ -e target/book/index.html ] || fail "there is no book; run: make docs"
command -v chromium >/dev/null || apt_install chromium
pages=${PAGES:-"index hang alerts metrics configuration comparison"}
out=target/book-screenshots
rm -rf "$out"
mkdir -p "$out"
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
for page in $pages; do
    for width in 1300 400; do
        for scheme in dark light; do
            # 0 is dark, 1 is light. A page takes its theme from the browser's scheme.
            number=$([ $scheme = dark ] && echo 0 || echo 1)
            chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
                --blink-settings=preferredColorScheme="$number" --window-size="$width,1600" \
                --screenshot="$out/$page-$width-$scheme.png" "file://$PWD/target/book/$page.html" >/dev/null 2>&1 ||
                fail "chromium could not show $page"
        done
    done
done
say "pictures in $out"
