#!/usr/bin/env bash
# Instructions of a request of each kind, without the host around it. Unlike a time, they are the same
# however busy the machine is. Needs valgrind (Debian).
# usage: core/benches/instructions.sh [kind…]
set -euo pipefail
cd "$(dirname "$0")/../.."

# Valgrind finds the function by its name.
counts=$(cargo rustc -q --release -p kubeagents-core --bench counts --message-format=json -- -C strip=none |
  grep -oP '"executable":"\K[^"]+')
[[ $# -gt 0 ]] || set -- report routing authentication agents sessions session all-sessions
requests=100
for kind; do
  total=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
    --toggle-collect='*World::answer*' "$counts" "$kind" $requests 2>&1 | grep -oP 'Collected : \K\d+')
  printf '%-16s %9d\n' "$kind" $((total / requests))
done
