-- Guesses of the passwords of many accounts, none of which exists.
dofile("wrk/common.lua")

local place = 0

function request()
  place = place + 1
  local body = string.format('{"email":"nobody-%d@example.com","password":"a guess %d"}', place, place)
  return wrk.format("POST", "/api/auth/login", headers(place), body)
end
