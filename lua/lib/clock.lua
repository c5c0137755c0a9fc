-- The only clock is the server's, which a script asks once. The clocks of hosts are never compared. A test pins the instant.
local function clock(at_us)
  if at_us ~= '0' then
    local at = whole_number(at_us, 0, COUNT)
    if not at or at > 0 then return at end
  end
  -- Without this call, Redis 6.2 with `lua-replicate-commands no` forbids writes in a script that has asked for the time.
  if not redis.REDIS_VERSION_NUM and redis.replicate_commands then redis.replicate_commands() end
  local time = redis.call('TIME')
  return time[1] * MICRO + time[2]
end
