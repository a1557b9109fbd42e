-- Reports for wrk: a thousand agents with ten sessions each.
-- To be run at the root of the repository.
dofile("bench/get.lua")

local counter = 0

wrk.method = "POST"
wrk.path = "/webhook/status"
wrk.headers["Content-Type"] = "application/json"

function request()
  counter = counter + 1
  local body = string.format(
    '{"agent_id":"agent-%d","agent_name":"Agent","session_topic":"topic-%d","status":"running",'
      .. '"message":"still at it","timestamp":"2026-01-01T00:00:00Z"}',
    counter % 1000, math.floor(counter / 1000) % 10)
  return wrk.format(nil, nil, nil, body)
end
