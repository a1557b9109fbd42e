#!/usr/bin/env bash
# Prints the version, which the workspace's manifest says.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --no-deps --locked --format-version 1 | python3 -c 'import json, sys
print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "kubeagents"))'
