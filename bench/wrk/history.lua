-- Reports on the session TOPIC of an agent; without TOPIC on new ones, a hundred each, whose topics begin with
-- RUN.
dofile("wrk/common.lua")

local topic = os.getenv("TOPIC")
local run, count = os.getenv("RUN"), 0

function request()
  count = count + 1
  local session = string.format("%s-%d", run, math.floor(count / 100))
  return report(0, "history", topic or session)
end
