#!/usr/bin/env bash
# Prints what the changelog says of a version, for the notes of its release.
# usage: packaging/changelog.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
notes=$(awk -v heading="## [$1]" '
    /^## / { found = index($0, heading) == 1; next }
    found' CHANGELOG.md | sed -e '/./,$!d')
[ -n "$notes" ] || { echo "CHANGELOG.md says nothing of $1" >&2 && exit 1; }
printf '%s\n' "$notes"
