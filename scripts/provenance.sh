#!/bin/sh
# Prints how target/dist was built, as the predicate of SLSA provenance 1.0: provenance.sh REPOSITORY TAG
#
# In the workflow the builder is the workflow, at its commit. Elsewhere it is this script, so that the two cannot be confused.
set -eu
[ $# = 2 ] || { echo "provenance.sh: REPOSITORY TAG" >&2; exit 2; }
cd "$(dirname "$0")/.."
. scripts/common.sh

dist=${DIST:-target/dist}
homepage=https://github.com/firstword/firstword
commit=$(sed -n 's/^commit //p' "$dist/BUILD.txt")
[ -n "$commit" ] || fail "$dist/BUILD.txt names no commit"
if [ -n "${GITHUB_WORKFLOW_REF:-}" ]; then
    source=$GITHUB_SERVER_URL/$GITHUB_REPOSITORY
    builder=$GITHUB_SERVER_URL/$GITHUB_WORKFLOW_REF
    invocation=$source/actions/runs/$GITHUB_RUN_ID/attempts/$GITHUB_RUN_ATTEMPT
else
    source=$homepage
    builder=$homepage/blob/$commit/scripts/release-dry.sh
    invocation=$(hostname)
fi
case $1$2$source$builder$invocation in *[!A-Za-z0-9:/@._-]*) fail "a name has a character that JSON would escape" ;; esac
cat <<END
{
  "buildDefinition": {
    "buildType": "$homepage/blob/$commit/scripts/release.sh",
    "externalParameters": {"tag": "$2", "imageRepository": "$1"},
    "internalParameters": {"rustc": "$("${RUSTC:-rustc}" --version)"},
    "resolvedDependencies": [
      {"uri": "git+$source@refs/tags/$2", "digest": {"gitCommit": "$commit"}}
    ]
  },
  "runDetails": {
    "builder": {"id": "$builder"},
    "metadata": {"invocationId": "$invocation", "finishedOn": "$(date -u +%Y-%m-%dT%H:%M:%SZ)"}
  }
}
END
