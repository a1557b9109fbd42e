#!/usr/bin/env bash
# Starts a program that was built, takes a report, and shows it: what a release must do at the very least.
# usage: packaging/try.sh COMMAND...; COMMAND starts the server, such as qemu-aarch64-static ./kubeagents
set -euo pipefail
work=$(mktemp -d)
PORT=0 DATABASE_URL=sqlite:$work/kubeagents.db "$@" 2>"$work/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -r "$work"' EXIT

for _ in $(seq 600); do
    url=$(sed -n 's/.*listening.*address=\(http:[^ ]*\).*/\1/p' "$work/log")
    [ -z "$url" ] || break
    kill -0 $server 2>/dev/null || break
    sleep 0.1
done
[ -n "$url" ] || { cat "$work/log" >&2 && exit 1; }
curl --silent --show-error --fail "$url/webhook/status" --data '{
    "agent_id": "try", "agent_name": "Try", "agent_source": "try", "session_topic": "a release",
    "status": "running", "message": "tried", "timestamp": "2026-01-01T00:00:00Z"}' >/dev/null
session=$(curl --silent --show-error --fail "$url/api/agents/try/sessions/a%20release")
page=$(curl --silent --show-error --fail "$url/")
[[ $session == *'"message":"tried"'* && $page == *'<!doctype html>'* ]] || { echo "$session $page" >&2 && exit 1; }
echo "a report is taken and shown by $*"
