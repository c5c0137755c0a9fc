-- Packs values that only the arithmetic reads with `struct`, which every server has. They are big-endian, so that any
-- language can unpack them. A number read as text costs several times as much, and a claim has a hundred of them. fakeredis
-- has no `struct`, so there the same parts are text and a number takes WIDE characters. Nothing else differs.
local pack, unpacked
local WIDE = struct and 8 or 25     -- of a double
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string.gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string.sub(words[i], 1, tonumber(size)) .. ' '
      elseif kind == 's' then words[i] = words[i] .. ' '
      else words[i] = string.format('%24.17g ', words[i]) end
    end
    return table.concat(words)
  end
  function unpacked(format, text, from)
    local values, at = {}, from or 1
    for kind in string.gmatch(format, '([dfIisc])%d*') do
      local is_text = kind == 's' or kind == 'c'
      local last = is_text and string.find(text, ' ', at, true) or at + WIDE - 1
      if not last or last > #text then error('too short') end
      local word = string.sub(text, at, last - 1)
      values[#values + 1] = is_text and word or tonumber(word) or error('not a number')
      at = last + 1
    end
    values[#values + 1] = at
    return unpack(values)
  end
end
