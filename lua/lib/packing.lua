-- What the arithmetic alone reads is packed with `struct`, which every server has: big-endian, so that any language unpacks it
-- likewise. A number read as text costs a multiple, and there are a hundred in a claim. fakeredis has no `struct`:
-- there it is text, and only there.
local pack, unpacked
if struct then
  pack, unpacked = struct.pack, struct.unpack
else
  function pack(format, ...)
    local words, i = {...}, 0
    for kind, size in string.gmatch(format, '([dfIisc])(%d*)') do
      i = i + 1
      if kind == 'c' then words[i] = string.sub(words[i], 1, tonumber(size))
      elseif kind ~= 's' then words[i] = string.format('%.17g', words[i]) end
    end
    return table.concat(words, ' ') .. ' '
  end
  function unpacked(format, text)
    local words, kinds = {}, string.gsub(format, '[^dfIisc]', '')
    for word in string.gmatch(text, '([^ ]*) ') do
      local i = #words + 1
      words[i] = string.find(string.sub(kinds, i, i), '[sc]') and word or tonumber(word)
    end
    return unpack(words)
  end
end
