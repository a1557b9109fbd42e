#!/usr/bin/env bash
# Reports per second over HTTP, beside pgbench storing the same reports with the statement of a
# single one, in turn, with as many clients on the same cluster.
# usage: DATABASE_URL=postgres://… bench/postgres/reports.sh [rounds] [seconds] [clients]
# The database must be empty and its cluster keep fsync on. Needs psql and pgbench (Debian:
# postgresql-contrib) and wrk.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} seconds=${2:-10} clients=${3:-64}

cargo build --release -q -p kubeagents
log=$(mktemp)
AUTH_MODE=open PORT=0 "${CARGO_TARGET_DIR:-target}/release/kubeagents" >"$log" 2>&1 &
server=$!
trap 'kill $server; rm "$log"' EXIT
until url=$(grep -oPm1 'address=\Khttp://127[0-9.:]*' "$log"); do
  kill -0 $server && sleep 0.1
done

one_by_one() {
  psql -qX "$DATABASE_URL" -f bench/postgres/sessions.sql
  pgbench -n -M prepared -c "$clients" -j 2 -T "$1" -D seq=0 -f bench/postgres/report.pgbench \
    "$DATABASE_URL" 2>/dev/null | sed -n 's/^tps = \([0-9]*\).*/\1/p'
}
over_http() {
  wrk -t 2 -c "$clients" -d "$1" -s bench/postgres/report.lua "$url/webhook/status" | tail -n1
}

psql -qX "$DATABASE_URL" -c 'SHOW fsync' -c 'SHOW synchronous_commit' -At
one_by_one 3 >/dev/null
over_http 3 >/dev/null
for _ in $(seq "$rounds"); do
  echo "$(one_by_one "$seconds") $(over_http "$seconds")"
done | awk '
  { printf "pgbench %d/s  kubeagents %d/s  ratio %.2f\n", $1, $2, $2 / $1
    ratios += $2 / $1; errors += $3 }
  END { printf "mean ratio %.2f, errors %d\n", ratios / NR, errors; exit errors > 0 }'
