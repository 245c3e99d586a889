#!/bin/sh
# Checks .github/workflows with actionlint, and with shellcheck the scripts in them if that is installed.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

go_program actionlint v1.7.12 github.com/rhysd/actionlint/cmd/actionlint "seconds"
"$tools/actionlint" -color=false .github/workflows/*.yaml
say "no problem in .github/workflows"
