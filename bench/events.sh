#!/usr/bin/env bash
# How long a report takes to those who follow (GET /api/events), and what they cost: with nobody, one and
# a thousand of them, in turn.
# usage: [DATABASE_URL=postgres://…] bench/events.sh [rounds] [seconds]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-8}

cargo build --release -q -p kubeagents -p kubeagents-bench
target=${CARGO_TARGET_DIR:-target}/release
log=$(mktemp)
ulimit -n 8192
AUTH_MODE=open PORT=0 "$target/kubeagents" >"$log" 2>&1 &
server=$!
trap 'kill $server; rm "$log"' EXIT
until url=$(grep -oPm1 'address=\Khttp://127[0-9.:]*' "$log"); do
  kill -0 $server && sleep 0.1
done

# Readers, and the milliseconds between reports; 0: as many as there can be.
measure() { "$target/events" "${url#http://}" $server "$1" "$seconds" "$2"; }

measure 0 0 >/dev/null
for _ in $(seq "$rounds"); do
  for case in '1 250' '1000 250' '0 0' '1 0' '1000 0'; do
    echo "$case $(measure $case)"
  done
done | awk '
  { printf "%4d readers, %s: %6d reports, event p50 %s ms, p99 %s ms, %s µs of CPU a report, %s MiB\n",
      $1, $2 ? "a report every " $2 " ms" : "16 sessions without pause", $3, $5, $6, $7, $8 }'
