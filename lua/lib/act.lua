-- The texts of the history and of the budget's hash: who changed what, from what to what, and why.
local LONGEST_WHO = 64          -- bytes
local LONGEST_NOTE = 200        -- bytes

local function in_force(fields, name) return fields[name .. '_by_operator'] or fields[name .. '_by_code'] or 'unset' end

local function move(name, old, new) return table.concat(old == new and {name, new} or {name, old, '->', new}, ' ') end

-- Writes the wanted values into `fields`. Returns three lists: the settings of this source that were replaced, the settings
-- that an operator's value hides, and one text for each wanted setting. A text names the values in force before and after, or
-- this source's own values if an operator's hides them.
local function take_over(fields, wanted, source)
  local changed, overruled, what = {}, {}, {}
  for _, name in ipairs(SETTINGS) do
    local text, field = wanted[name], name .. '_by_' .. source
    if text then
      local was, hidden_by, old = fields[field], source == 'code' and fields[name .. '_by_operator'], in_force(fields, name)
      fields[field] = text ~= '' and text or nil
      if was and text ~= was then changed[#changed + 1] = name end
      if text ~= '' and hidden_by then overruled[#overruled + 1] = name end
      what[#what + 1] = move(name, old, in_force(fields, name))
      if hidden_by then
        what[#what] = table.concat({move(name, was or 'unset', fields[field] or 'unset'), ' (hidden by ', hidden_by, ')'})
      end
    end
  end
  return changed, overruled, what
end

-- Who set a value, when and why: `2026-11-29T09:53:20.000Z anna@ops1: maintenance`.
local function whose(who, source, why, now)
  local by = who ~= '' and who or source
  return table.concat({date_of(now), why ~= '' and table.concat({by, why}, ': ') or by}, ' ')
end

local function pause_text(pause_ms, is_hidden)
  if is_hidden then return 'resumed, hidden by the pause of an operator' end
  if pause_ms == 0 then return 'resumed' end
  if pause_ms == UNTIL_RESUMED then return 'paused until it is resumed' end
  return table.concat({'paused for', plain(pause_ms * 1000), 's'}, ' ')
end
