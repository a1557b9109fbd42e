#!/usr/bin/env bash
# Reports and reads per second on a large database, by one, two and four servers; reports on a session
# of a million statuses beside a new one; and what deleting old statuses costs reports.
# usage: DATABASE_URL=postgres://… bench/postgres/scale.sh reports|reads|history|retention [seconds]
# The database is one that seed.sql has filled with a million sessions; its cluster must keep fsync on.
# Needs psql and wrk.
set -euo pipefail
cd "$(dirname "$0")/../.."
what=$1 seconds=${2:-5}
server=${CARGO_TARGET_DIR:-target}/release/kubeagents
cargo build --release -q -p kubeagents

directory=$(mktemp -d) servers=() urls=()
trap 'kill "${servers[@]}"; wait; rm -r "$directory"' EXIT

# Starts a server with these variables; its address joins the others.
serve() {
  local log=$directory/log.${#servers[@]} url
  env AUTH_MODE=open PORT=0 "$@" "$server" >"$log" 2>&1 &
  servers+=($!)
  until url=$(grep -oPm1 'address=\Khttp://127[0-9.:]*' "$log"); do
    kill -0 $! && sleep 0.1
  done
  urls+=("$url")
}

# load SERVERS CONNECTIONS SECONDS PATH: the sum over the servers, and the worst percentiles.
load() {
  local place parts=()
  for place in $(seq 0 $(($1 - 1))); do
    wrk -t 1 -c $(($2 / $1)) -d "$3" --latency -s "bench/postgres/scale.lua" "${urls[place]}$4" |
      tail -n1 >"$directory/part.$place" &
    parts+=($!)
  done
  wait "${parts[@]}"
  cat $(seq -f "$directory/part.%g" 0 $(($1 - 1))) | awk '
    { rate += $1; if ($2 > half) half = $2; if ($3 > worst) worst = $3; errors += $4 }
    END { printf "%d/s, p50 %.1f ms, p99 %.1f ms, %d errors\n", rate, half, worst, errors }'
}

sql() { psql -qXAt -F ' ' "$DATABASE_URL" "$@"; }

# Statuses stored, WAL bytes, page images and flushes so far.
counted() {
  sql -c "SELECT n_tup_ins, wal_bytes, wal_fpi, wal_sync FROM pg_stat_wal, pg_stat_user_tables
    WHERE relname = 'statuses'"
}

# Runs a command, and prints what each report has cost.
each() {
  local before
  sleep 2
  before=$(counted)
  "$@"
  sleep 2
  echo "$before $(counted)" | awk '{
    n = $5 - $1
    printf "  %d reports: WAL %.0f bytes each, page images %.3f, flushes %.3f\n", n, ($6 - $2) / n,
      ($7 - $3) / n, ($8 - $4) / n }'
}

case $what in
reports)
  for _ in 1 2 3 4; do serve; done
  load 4 64 2 /webhook/status >/dev/null
  for servers_used in 1 2 4 1 2 4; do
    echo -n "$servers_used servers: "
    each load $servers_used 64 "$seconds" /webhook/status
  done
  ;;
reads)
  for _ in 1 2 3 4; do serve; done
  for path in '/api/agents?limit=100' /api/agents/agent%207/sessions /api/agents/agent%207/sessions/topic%203 \
    '/api/agents/long/sessions/long?limit=1000' '/api/sessions?limit=100' '/api/sessions?limit=1000'; do
    for servers_used in 1 2 4; do
      echo -n "$path, $servers_used servers: "
      load $servers_used 16 "$seconds" "$path"
    done
  done
  ;;
history)
  serve
  for topic in short long short long short long short long short long; do
    echo -n "$topic: "
    TOPIC=$topic load 1 1 "$seconds" /webhook/status
  done
  sql -c "SELECT session_topic, seq FROM kubeagents_data.sessions
    WHERE workspace = 'shared' AND agent_id IN ('long', 'short')"
  ;;
retention)
  serve
  load 1 64 2 /webhook/status >/dev/null
  echo -n "alone: "
  each load 1 64 "$seconds" /webhook/status
  serve HISTORY_RETENTION_DAYS=30
  echo -n "while old statuses are deleted: "
  each load 1 64 "$seconds" /webhook/status
  until grep 'old statuses were deleted' "$directory/log.1"; do sleep 0.5; done
  echo -n "afterwards: "
  each load 1 64 "$seconds" /webhook/status
  sql -c "SELECT n_tup_del AS deleted, n_dead_tup AS dead FROM pg_stat_user_tables WHERE relname = 'statuses'"
  ;;
esac
