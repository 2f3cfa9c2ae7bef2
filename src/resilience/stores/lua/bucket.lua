-- The twin of resilience/machines/shared_bucket.py, line by line; what things mean and why is said there.
local SLOTS, KEEP_MS, DEEPEST = 6, 3600000, 4503599627370496

local function step(state, now, arguments)
  local op, unit, fill, burst, n, most = arguments[1], arguments[2], arguments[3], arguments[4], arguments[5], arguments[6]
  local batch, lease, slot_of = arguments[7], arguments[8], arguments[11]
  local gift = arguments[12]
  local floor, max, min = math.floor, math.max, math.min
  local time, level, total = now, burst * unit, 0
  local slots, out = {}, 0
  if #state > 0 then
    local kept = state[2]
    time, level, total = state[1], state[3], state[4]
    now = max(now, time)
    if kept ~= unit then level = floor(level / kept) * unit end
    for i = 5, #state, 2 do
      slots[#slots + 1] = {state[i], state[i + 1]}
      out = out + state[i + 1]
    end
  end

  while #slots > 0 and slots[1][1] <= now do
    local expired = table.remove(slots, 1)
    level = min(level + (expired[1] - time) * fill, (burst - out) * unit)
    time = expired[1]
    out = out - expired[2]
    total = total + expired[2]
  end
  level = min(level + (now - time) * fill, (burst - out) * unit)

  local changed = gift > 0
  local spent, unspent = 0, 0
  if op == 0 then
    for i = #slots, 1, -1 do
      if slots[i][1] == slot_of then
        spent = min(arguments[9], slots[i][2])
        unspent = min(arguments[10], slots[i][2] - spent)
        slots[i][2] = slots[i][2] - spent - unspent
        changed = changed or spent + unspent > 0
        if slots[i][2] == 0 then table.remove(slots, i) end
      end
    end
    out = out - spent - unspent
    total = total + spent
  end
  level = min(level + unspent * unit + gift, (burst - out) * unit)

  local granted, wait, leased, slot = 0, 0, 0, 0
  if op == 1 then
    if level < 0 and fill > 0 and slot_of > now and now - floor(level / fill) == slot_of then
      granted, changed = 1, true
      level = min(level + n * unit, (burst - out) * unit)
      total = total - n
    end
  elseif n > burst - out then
    local freed = out
    for _, held in ipairs(slots) do
      if n > burst - freed then
        wait = held[1] - now
        freed = freed - held[2]
      end
    end
  else
    local after = level - n * unit
    if after < 0 then
      if fill > 0 then wait = -floor(after / fill) else wait = -1 end
    end
    if n > 0 and (after >= 0 or (wait >= 0 and wait <= most and after >= -DEEPEST)) then
      level, total = after, total + n
      granted, changed = 1, true
    end
  end
  if op == 0 and lease > 0 and (granted == 1 or n == 0) and level > 0 then
    leased = max(0, min(batch, floor(floor(level / unit) / 2), floor(burst / 2) - out))
    local width = max(1, floor(lease / 4))
    slot = floor((now + lease) / width) * width + width
    local at = 1
    while at <= #slots and slots[at][1] < slot do at = at + 1 end
    local known = at <= #slots and slots[at][1] == slot
    if leased > 0 and (known or #slots < SLOTS) then
      if known then
        slots[at][2] = slots[at][2] + leased
      else
        table.insert(slots, at, {slot, leased})
      end
      level = level - leased * unit
      out = out + leased
      changed = true
    else
      leased = 0
    end
  end
  if leased == 0 then slot = 0 end
  local reply = {granted, wait, leased, slot, total, now, level}
  if not changed then return nil, 0, reply end
  local full = KEEP_MS * 1000
  if fill > 0 then full = -floor((level - burst * unit) / fill) end
  local last = 0
  if #slots > 0 then last = slots[#slots][1] - now end
  local after = {now, unit, level, total}
  for _, held in ipairs(slots) do
    after[#after + 1] = held[1]
    after[#after + 1] = held[2]
  end
  return after, floor((full + last) / 1000) + 1, reply
end
