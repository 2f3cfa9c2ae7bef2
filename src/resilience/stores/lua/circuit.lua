-- The twin of resilience/machines/shared_circuit.py, line by line; what things mean and why is said there.
local CELLS, KEEP_MS, MOST, MILLION = 10, 3600000, 536870912, 1000000
local CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED = 0, 1, 2, 3, 4
local PASSED, FAILED = 1, 2

local function step(state, now, arguments)
  local claim, by_hand, claim_wait, known = arguments[1], arguments[2], arguments[3], arguments[4]
  local added = {arguments[5], arguments[6], arguments[7]}
  local minimum, failure_rate, slow_rate, width = arguments[8], arguments[9], arguments[10], arguments[11]
  local first, again, probes, lease_time = arguments[12], arguments[13], arguments[14], arguments[15]
  local wanted, number, verdict = arguments[16], arguments[17], arguments[18]
  local floor, min, max = math.floor, math.min, math.max

  local generation, birth, at, since, until_, opens, passed, lease, ends, began = now, now, CLOSED, now, 0, 0, 0, 0, 0, now
  local cells = {}
  if #state > 0 then
    generation, birth, at, since, until_ = state[1], state[2], state[3], state[4], state[5]
    opens, passed, lease, ends, began = state[6], state[7], state[8], state[9], state[10]
  end
  local passed_by = floor(max(0, now - began) / width)
  began = began + passed_by * width
  for i = 1, 3 * CELLS do cells[i] = state[10 + i + 3 * min(passed_by, CELLS)] or 0 end
  if lease > 0 and now >= ends then lease, ends = 0, 0 end
  if at == CLOSED and now - since >= CELLS * width then opens = 0 end

  local function move(to, wait, count)
    generation, at, since, until_ = generation + 1, to, now, now + wait
    opens, passed, lease, ends = count, 0, 0, 0
  end
  local function clear()
    for i = 1, 3 * CELLS do cells[i] = 0 end
  end

  local open_time = first
  if opens > 0 then open_time = again end
  if number > 0 and number == lease then
    lease, ends = 0, 0
    if verdict == PASSED then passed = passed + 1 end
    if verdict == FAILED then
      move(OPEN, open_time, opens + 1)
    elseif passed >= probes then
      move(CLOSED, 0, opens)
      clear()
    end
  end

  local forgotten = known < birth and birth == generation
  local knows = forgotten or known == generation
  if at == CLOSED and added[1] > 0 and knows then
    for i = 1, 3 do
      local newest = 3 * CELLS - 3 + i
      cells[newest] = min(MOST, cells[newest] + added[i])
    end
  end
  local sums = {0, 0, 0}
  for i = 0, 3 * CELLS - 1 do sums[i % 3 + 1] = sums[i % 3 + 1] + cells[i + 1] end
  if at == CLOSED and added[2] + added[3] > 0 and sums[1] >= minimum and knows then
    local too_many = failure_rate * sums[1] > 0 and failure_rate * sums[1] <= sums[2] * MILLION
    local too_slow = slow_rate * sums[1] > 0 and slow_rate * sums[1] <= sums[3] * MILLION
    if too_many or too_slow then move(OPEN, open_time, opens + 1) end
  end

  local claims_open = claim == OPEN and claim_wait > 0 and knows
  local claims_steered = (claim == FORCED_OPEN or claim == DISABLED) and forgotten
  if by_hand > 0 or (at == CLOSED and (claims_open or claims_steered)) then
    if claim == OPEN then
      move(OPEN, claim_wait, opens + 1)
    else
      move(claim, 0, 0)
      if claim == CLOSED then
        clear()
        sums = {0, 0, 0}
      end
    end
  end

  local leased = 0
  if wanted > 0 and at == OPEN and now >= until_ then move(HALF_OPEN, 0, opens) end
  if wanted > 0 and at == HALF_OPEN and lease == 0 then
    lease, ends = wanted, now + lease_time
    leased = 1
  end

  local wait = 0
  if at == OPEN then
    wait = max(0, until_ - now)
  elseif lease > 0 then
    wait = ends - now
  end
  local reply = {at, generation, wait, opens, passed, leased, sums[1], sums[2], sums[3]}
  local after = {generation, birth, at, since, until_, opens, passed, lease, ends, began}
  for i = 1, 3 * CELLS do after[10 + i] = cells[i] end
  local same = #state > 0
  for i = 1, #after do same = same and after[i] == state[i] end
  if same then after = nil end
  local keep = KEEP_MS
  if at == FORCED_OPEN or at == DISABLED then keep = 366 * 24 * KEEP_MS end
  return after, floor((wait + CELLS * width) / 1000) + keep, reply
end
