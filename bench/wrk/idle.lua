-- CONNECTIONS connections with one request each, which are idle from then on.
dofile("wrk/common.lua")

local connections, started = tonumber(os.getenv("CONNECTIONS")), 0

function delay()
  started = started + 1
  return started > connections and 3600 * 1000 or 0
end
