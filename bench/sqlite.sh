#!/usr/bin/env bash
# Reports per second over HTTP with storage in SQLite, beside one writer that stores the same reports
# one transaction and one flush each, in turn, in the same file.
# usage: bench/sqlite.sh [directory] [rounds] [seconds] [connections]; needs wrk (Debian)
# The directory must be on the disk that is measured, and not in memory.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=${1:-.} rounds=${2:-5} seconds=${3:-4} connections=${4:-64}

cargo build --release -q -p kubeagents -p kubeagents-bench
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d -p "$directory")
DATABASE_URL=sqlite:$work/bench.db PORT=0 "$target/kubeagents" >"$work/log" 2>&1 &
server=$!
trap 'kill $server; rm -r "$work"' EXIT
until url=$(grep -som1 'http://127[0-9.:]*' "$work/log"); do
  kill -0 $server && sleep 0.1
done

bare() { "$target/sqlite" "$work/bench.db" "$1"; }
# Prints reports per second, the 99th percentile of their latency in µs, and errors.
load() { wrk -t1 -c"$connections" -d"${1}s" -s bench/report.lua "$url" | tail -n1; }

load 1 >/dev/null
for _ in $(seq "$rounds"); do
  echo "$(bare "$seconds") $(load "$seconds")"
done | awk '
  { printf "bare %d/s  kubeagents %d/s (p99 %.1f ms)  ratio %.2f\n", $1, $2, $3 / 1000, $2 / $1
    ratios += $2 / $1; errors += $4 }
  END { printf "mean ratio %.2f, errors %d\n", ratios / NR, errors; exit errors > 0 }'
