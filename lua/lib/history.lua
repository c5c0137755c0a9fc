-- The stream of what changed: the rate, who or what changed it, and why. When an entry is due is decided in rate.lua.
local NOTED_APART_MS = 10000     -- an entry of a report that is younger than this after the one before gives way to the next

-- A load that jitters moves the rate at each report. So the newest entry gives way to the next one if it is a report's, says
-- no new level or reason, and stands close behind the entry before it. What people did stays in the history for longer then.
local function make_room(keys)
  local newest = redis.call('XREVRANGE', keys.history, '+', '-', 'COUNT', 2)
  if #newest < 2 then return end
  local last, before = newest[1][2], newest[2][2]   -- as `note` writes them: 4 is the level, 8 the reason, 10 `by`
  local apart = tonumber(newest[1][1]:match('^%d+')) - tonumber(newest[2][1]:match('^%d+'))
  if last[10] == 'report' and last[4] == before[4] and last[8] == before[8] and apart < NOTED_APART_MS then
    redis.call('XDEL', keys.history, newest[1][1])
  end
end

-- `act`: who did it, what changed, and why. An empty text is left out.
local function note(keys, budget, by, act)
  local entry = {'XADD', keys.history, 'MAXLEN', '~', 1000, '*', 'rate_per_s', plain(budget.rate),
                 'level', whole(budget.level), 'load_percent', plain(budget.load), 'reason', budget.reason, 'by', by}
  for _, field in ipairs({'who', 'what', 'why'}) do
    local text = act and act[field]
    if text and text ~= '' then
      entry[#entry + 1] = field
      entry[#entry + 1] = text
    end
  end
  redis.call(unpack(entry))
  read_rest(keys, budget)
  if budget.is_persistent == 0 then redis.call('PEXPIRE', keys.history, KEEP_BUDGET_MS) end
end
