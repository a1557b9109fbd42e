-- Reads of the URL that wrk is given.
dofile("wrk/common.lua")

local place = 0

function request()
  place = place + 1
  return wrk.format("GET", nil, headers(place))
end
