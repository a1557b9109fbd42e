#!/usr/bin/env bash
# An hour of reports, readers, followers, notifications, log-ins and guesses, while servers and database are
# killed again and again; then counts what was acknowledged against what is stored, told and shown. Fails
# where anything was lost, doubled, reordered or untold, or memory has grown.
# usage: bench/soak.sh [minutes] [postgres|sqlite]; PostgreSQL is installed with apt-get where it is missing
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -q -p kubeagents -p kubeagents-bench
target=${CARGO_TARGET_DIR:-target}/release
exec "$target/soak" "$target/kubeagents" "${1:-60}" "${2:-postgres}"
