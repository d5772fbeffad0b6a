-- The journal of an evacuation, or of a drain: what a step writes besides the VM's entry. ARGV[1] is the evacuation, ARGV[2] the runner.
local ID = ARGV[1]
local HEAD = K_evacuation(ID)
local MOVING = {'state', 'reason', 'message', 'proof', 'proof_time_s', 'end_time_s', 'sequence', 'cancel_requested',
  'count_UNSPECIFIED', 'count_MOVED', 'count_SKIPPED', 'count_FAILED', 'count_PENDING', 'count_RESTARTED', 'count_REBUILT'}

-- Why this runner may not write now; nil when it may.
local function refused(runner)
  local row = redis.call('HMGET', HEAD, 'state', 'ended')
  if not row[1] then return {'EVACUATION_UNKNOWN', 'evacuation_id', ID} end
  if redis.call('GET', K_runner(ID)) ~= runner then return {'RUNNER_SUPERSEDED', 'evacuation_id', ID} end
  if row[2] == '1' then return {'EVACUATION_ENDED', 'evacuation_id', ID, 'state', row[1]} end
  return nil
end

local function record(vm_json)
  local sequence = int(num(get(HEAD, 'sequence')) + 1)
  redis.call('HSET', HEAD, 'sequence', sequence)
  local values, flat = redis.call('HMGET', HEAD, unpack(MOVING)), {}
  for i, name in ipairs(MOVING) do flat[#flat + 1] = name; flat[#flat + 1] = values[i] or '' end
  redis.call('XADD', K_history(ID), 'MAXLEN', '~', EVENTS_KEPT, sequence .. '-0', 't', NOW, 'h', cjson.encode(flat), 'v', vm_json)
end

local function state_event()
  local flat = redis.call('HGETALL', HEAD)
  append_event('evacuation_state_change', ID, 'evac', 'e', ID, 'h', cjson.encode(flat))
end

-- A new journal: what it is of, its first step, and room for it among those that are kept.
local function begin(...)
  redis.call('HSET', HEAD, 'reason', '', 'message', '', 'proof', 'UNSPECIFIED', 'start_time_s', NOW, 'sequence', '0', ...)
  for _, old in ipairs(redis.call('ZRANGE', K_evacuations(), 0, 9)) do
    local full = redis.call('ZCARD', K_evacuations()) >= EVACUATIONS_KEPT
    if not exists(K_evacuation(old)) or (full and get(K_evacuation(old), 'ended') == '1') then
      redis.call('DEL', K_evacuation(old), K_entries(old), K_history(old))
      redis.call('ZREM', K_evacuations(), old)
    end
  end
  redis.call('ZADD', K_evacuations(), int(NOW_MS), ID)
  record('')
  state_event()
end

local NOT_RUNNING = {PENDING = true, FAILED = true, SKIPPED = true}

-- Why the VM does not run, where operators look first; not when somebody else owns it by now. What a drain leaves runs on.
local function explain(vm_id, entry)
  if not NOT_RUNNING[entry.outcome] or get(HEAD, 'kind') == 'DRAIN' then return end
  local owner = get(K_vm(vm_id), 'owner')
  if owner ~= '' and (owner == get(HEAD, 'host_id') or owner == entry.target_host_id) then
    redis.call('HSET', K_vm(vm_id), 'reason', entry.reason)
  end
end

-- Writes one entry and keeps the counters. Answers changed, refusal.
local function put_entry(vm_id, vm_json)
  local old = redis.call('HGET', K_entries(ID), vm_id)
  if old == vm_json then return false, nil end
  local outcome, before = cjson.decode(vm_json).outcome, old and cjson.decode(old).outcome
  if before and before ~= outcome and before ~= 'UNSPECIFIED' and before ~= 'PENDING' then
    return false, {'VM_SETTLED', 'evacuation_id', ID, 'vm_id', vm_id, 'outcome', before}
  end
  redis.call('HSET', K_entries(ID), vm_id, vm_json)
  if before ~= outcome then
    if before then redis.call('HINCRBY', HEAD, 'count_' .. before, -1) end
    redis.call('HINCRBY', HEAD, 'count_' .. outcome, 1)
  end
  explain(vm_id, cjson.decode(vm_json))
  return true, nil
end

local function vm_event(vm_json)
  append_event('vm_evacuation_change', ID, 'evac', 'e', ID, 's', get(HEAD, 'host_id'), 'v', vm_json)
end
