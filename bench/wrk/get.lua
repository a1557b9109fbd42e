-- Reads of the URL that wrk is given. Those who ask for the same list at once share a reading, so each asks for
-- a list of its own, unless SAME is set: by a case, or in the environment.
dofile("wrk/common.lua")

local same = os.getenv("SAME")
local place = 0

function request()
  place = place + 1
  local path = wrk.path
  if not same then
    path = path .. (path:find("?", 1, true) and "&" or "?") .. "reader=" .. place
  end
  return wrk.format("GET", path, headers(place))
end
