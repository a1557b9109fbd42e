#!/usr/bin/env bash
# The Spin component in the test host, beside an empty component in the same host in the same run:
# requests per second, with instances reused as Spin does; how long the first request to a new
# instance takes; and what a login costs, itself and a request beside it.
# usage: bench/spin.sh [rounds] [seconds] [connections]; needs wrk, curl and PostgreSQL (Debian)
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3} seconds=${2:-3} connections=${3:-16}
unset RUST_BACKTRACE

target=${CARGO_TARGET_DIR:-target}
cargo build --release -q -p kubeagents-spin-tests --example serve
cargo build -q -p kubeagents-bench-empty --profile component --target wasm32-wasip2
empty=$target/wasm32-wasip2/component/kubeagents_bench_empty.wasm
directory=$(mktemp -d)
processes=()
trap 'kill "${processes[@]}"; wait; rm -r "$directory"' EXIT

# Starts the application, and leaves in $url where it listens.
start() {
  local folder=$directory/$1
  shift
  mkdir "$folder"
  "$target/release/examples/serve" "$folder" "$@" auth_mode=open >"$folder/log" 2>&1 &
  processes+=($!)
  until url=$(grep -om1 'http://127[0-9.:]*' "$folder/log"); do
    kill -0 $! && sleep 0.1
  done
}
declare -A urls
for storage in empty sqlite postgres; do
  case $storage in
    empty) options=(--component "$empty") ;;
    sqlite) options=() ;;
    postgres) options=(--postgres) ;;
  esac
  start "$storage" "${options[@]}"
  urls[$storage]=$url
  start "$storage-fresh" "${options[@]}" --fresh
  urls[$storage-fresh]=$url
done

# Prints requests per second, the 99th percentile of their latency in µs, and errors.
reports() { wrk -t1 -c"$1" -d"${seconds}s" -s bench/report.lua "$2" | tail -n1; }
# Prints the same of GET /health.
health() { wrk -t1 -c"$1" -d"${seconds}s" -s bench/get.lua "$2/health" | tail -n1; }

echo "size: $(stat -c %s "$target/wasm32-wasip2/component/kubeagents_spin.wasm") bytes"
for storage in empty sqlite postgres; do
  health 1 "${urls[$storage]}" >/dev/null
done
for _ in $(seq "$rounds"); do
  for storage in empty sqlite postgres; do
    echo "$storage health $(health "$connections" "${urls[$storage]}")"
  done
  for storage in empty sqlite postgres; do
    echo "$storage report $(reports "$connections" "${urls[$storage]}")"
  done
  for storage in empty sqlite postgres; do
    echo "$storage new-instance $(health 1 "${urls[$storage-fresh]}")"
  done
done | tee "$directory/results" | awk '{ printf "%s %s: %d/s, p99 %.1f ms, errors %d\n", $1, $2, $3, $4 / 1000, $5 }'
awk '
  { key = $2 " " $1; sum[key] += $3; count[key]++; errors += $5 }
  END { for (key in sum) printf "mean %s: %.0f/s, one in %.2f ms\n", key, sum[key] / count[key],
      1000 * count[key] / sum[key]
    exit errors > 0 }' "$directory/results" | sort

account='{"email":"a@example.com","password":"correct horse"}'
login() { curl -so /dev/null -w '%{time_total}\n' "${urls[sqlite]}/api/auth/$1" -d "$account"; }
login register >/dev/null
echo "logins, in seconds:" $(for _ in 1 2 3 4 5; do login login; done)
describe='{ printf "%s: %d/s, p99 %.1f ms\n", name, $1, $2 / 1000 }'
health 1 "${urls[sqlite]}" | awk -v name="health, one after another" "$describe"
(while :; do login login >/dev/null; done) &
processes+=($!)
health 1 "${urls[sqlite]}" | awk -v name="the same beside logins" "$describe"
