-- Reports of AGENTS agents with TOPICS sessions each. PAUSE: milliseconds before each.
dofile("wrk/common.lua")

local agents, topics = tonumber(os.getenv("AGENTS")), tonumber(os.getenv("TOPICS"))
local requests, place = {}, 0

-- Written beforehand, so that wrk takes little from what is measured.
function init()
  for i = 0, agents * topics - 1 do
    requests[i + 1] = report(i, "agent-" .. i % agents, "topic-" .. math.floor(i / agents))
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

local pause = os.getenv("PAUSE")
if pause then
  function delay() return tonumber(pause) end
end
