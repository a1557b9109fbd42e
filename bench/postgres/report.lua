-- Reports over HTTP, to be run beside report.pgbench:
--   wrk -t 2 -c 64 -d 20 -s bench/postgres/report.lua http://127.0.0.1:8080/webhook/status
-- The server runs with AUTH_MODE=open on the same cluster.
local thread = 0
function setup(t) t:set("id", thread); thread = thread + 1 end
local n = 0
function request()
  n = n + 1
  local topic = id * 500 + n % 500
  local body = string.format(
    '{"agent_id":"agent %d","session_topic":"topic %d","status":"running","timestamp":"2026-01-01T00:00:00Z","message":"a line of progress"}',
    topic % 16, topic)
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end
-- Prints reports per second and errors.
function done(summary)
  local bad = summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read
  io.write(string.format("%.0f %d\n", summary.requests / (summary.duration / 1e6), bad))
end
