-- What every script for wrk shares. Scripts read environment variables; KEYS names a file of API keys, one
-- a line.

local keys = {}
if os.getenv("KEYS") then
  for key in io.lines(os.getenv("KEYS")) do keys[#keys + 1] = key end
end

-- The headers of the request at a place: of all keys, each in its turn.
function headers(place)
  local headers = {["Content-Type"] = "application/json"}
  if #keys > 0 then headers["Authorization"] = "Bearer " .. keys[place % #keys + 1] end
  return headers
end

-- A report whose message has 60 characters and whose content 200.
local text = '"agent_name":"Agent","status":"running","timestamp":"2026-01-01T00:00:00Z","message":"'
  .. string.rep("still at it ", 5) .. '","content":"' .. string.rep("a line of content of twenty-five ", 6)
  .. "ab" .. '"}'
function report(place, agent, topic)
  local body = string.format('{"agent_id":"%s","session_topic":"%s",%s', agent, topic, text)
  return wrk.format("POST", "/webhook/status", headers(place), body)
end

-- Prints requests per second, the 99th percentile of their latency in µs, and the number of errors.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("%.2f %d %d\n",
    summary.requests / (summary.duration / 1e6),
    latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
