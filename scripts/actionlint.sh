#!/bin/sh
# Checks .github/workflows with actionlint, and with shellcheck the scripts in them if that is installed.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

actionlint_version=v1.7.12
tools=$(pwd -P)/target/tools
mkdir -p "$tools"

install_actionlint() {
    go install "github.com/rhysd/actionlint/cmd/actionlint@$actionlint_version" &&
        mv "$cache/actionlint" "$tools/actionlint-$actionlint_version"
}
[ -x "$tools/actionlint-$actionlint_version" ] || {
    say "building actionlint $actionlint_version"
    in_go install_actionlint || fail "go could not build actionlint"
}
"$tools/actionlint-$actionlint_version" -color=false .github/workflows/*.yaml
say "no problem in .github/workflows"
