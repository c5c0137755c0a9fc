-- The only clock is the server's, asked once per script: hosts' clocks are never compared. A test pins the instant.
local function clock(at_us)
  local at = decimal(at_us, 0, 9007199254740991)
  if not at then return nil end
  if at > 0 then return floor(at) end
  local time = redis.call('TIME')
  return time[1] * MICRO + time[2]
end
