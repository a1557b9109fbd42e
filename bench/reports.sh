#!/usr/bin/env bash
# Reports per second, beside a bare hyper handler under the same load in the same run.
# usage: bench/reports.sh [rounds] [seconds] [connections]; needs wrk (Debian: apt-get install wrk)
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-4} connections=${3:-64}

cargo build --release -q -p kubeagents -p kubeagents-bench
target=${CARGO_TARGET_DIR:-target}/release
logs=$(mktemp -d)
processes=()
trap 'kill "${processes[@]}"; rm -r "$logs"' EXIT

# Starts a command, and leaves in $url where it listens.
start() {
  local log=$logs/$1
  shift
  "$@" >"$log" 2>&1 &
  processes+=($!)
  until url=$(grep -oPm1 'address=\Khttp://127[0-9.:]*' "$log"); do
    kill -0 $! && sleep 0.1
  done
}
start bare "$target/kubeagents-bench"
bare=$url
start kubeagents env PORT=0 "$target/kubeagents"
kubeagents=$url

# Prints reports per second, the 99th percentile of their latency in µs, and errors.
load() { wrk -t1 -c"$connections" -d"${1}s" -s bench/report.lua "$2" | tail -n1; }

load 1 "$bare" >/dev/null
load 1 "$kubeagents" >/dev/null
for _ in $(seq "$rounds"); do
  echo "$(load "$seconds" "$bare") $(load "$seconds" "$kubeagents")"
done | awk '
  { printf "bare %d/s (p99 %.1f ms)  kubeagents %d/s (p99 %.1f ms)  ratio %.2f\n",
      $1, $2 / 1000, $4, $5 / 1000, $4 / $1
    ratios += $4 / $1; errors += $3 + $6 }
  END { printf "mean ratio %.2f, errors %d\n", ratios / NR, errors; exit errors > 0 }'
