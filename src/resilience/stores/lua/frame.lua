-- Around every step: the server's time, the state from its key and back. All numbers, of a state, the arguments and the
-- reply, are whole and go as one text with spaces between, for a text is quicker to pack and to parse than a list.
local function numbers(text)
  local found = {}
  for number in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(number) end
  return found
end

local function text(list)
  local texts = {}
  for i, number in ipairs(list) do texts[i] = string.format('%.0f', number) end
  return table.concat(texts, ' ')
end

local arguments = numbers(ARGV[1])
local state = numbers(redis.call('GET', KEYS[1]) or '')
local clock = redis.call('TIME')
local after, ttl, reply = step(state, clock[1] * 1000000 + clock[2], arguments)
if after and #after == 0 then
  redis.call('DEL', KEYS[1])
elseif after then
  redis.call('SET', KEYS[1], text(after), 'PX', string.format('%.0f', ttl))
end
return text(reply)
