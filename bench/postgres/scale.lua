-- Reports on the sessions that seed.sql has made, jumping about among them, or with TOPIC on that session
-- alone; on another path than that of reports, reads of it.
local topic = os.getenv("TOPIC")
local agents, sessions = 10000, 1000000
local message = ("a line of progress"):rep(4):sub(1, 60)
local content = ("what came of it "):rep(13):sub(1, 200)
local place = os.time()

function request()
  if wrk.path ~= "/webhook/status" then return wrk.format() end
  place = (place + 7919) % sessions
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, string.format(
    '{"agent_id":"%s","session_topic":"%s","status":"running","timestamp":"2026-01-01T00:00:00Z",'
      .. '"message":"%s","content":"%s"}',
    topic or "agent " .. place % agents, topic or "topic " .. math.floor(place / agents), message, content))
end

-- Prints requests per second, the 50th and 99th percentile in milliseconds, and errors.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("%.0f %.1f %.1f %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.timeout + errors.connect + errors.read))
end
