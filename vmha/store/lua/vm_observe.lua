-- uses: ownership
-- uses: seen
-- A host's word on its VMs. ARGV: host_id, incarnation, full, planned shutdown, orphans, then 9 for each VM:
-- vm_id, name, state, reason, XML or '', facts or '', epoch that the agent holds or 0, autostart, epoch of its claim or 0.
-- Answers adopted, updated, moved (records), deleted (ids), foreign, absent (records).
local me, incarnation, full, planned = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4] == '1'
-- Every member has said what it runs: whatever executes has a record (R20).
local orphans = ARGV[5] == '1' and get(K_cluster(), 'awaited') == ''
if not exists(K_host(me)) then return {'HOST_UNKNOWN', 'host_id', me} end
if not in_force(K_host(me), incarnation) then
  return {'STALE_INCARNATION', 'host_id', me, 'incarnation', incarnation}
end
local adopted, updated, moved, deleted, foreign, absent = {}, {}, {}, {}, {}, {}
local SELF_FENCED = 'self_fenced'
local STOPPED_BY_USER = {shutdown = true, destroyed = true, saved = true}
local FIELDS = {'owner', 'owner_incarnation', 'epoch', 'desired_state', 'state', 'state_reason', 'name', 'facts', 'autostart',
  'claim_open', 'departed', 'seen_on', 'seen_incarnation', 'seen_state', 'reason', 'unadmitted', 'withheld', 'ran_in', 'ended_on', 'ended_epoch'}
local boot = get(K_host(me), 'boot_id')

local function note(list, vm_id) list[#list + 1] = {vm_id, redis.call('HGETALL', K_vm(vm_id))} end

local function executes(o) return o.state == 'RUNNING' or o.state == 'PAUSED' end

-- What it should be from now on, given what it is; nil: unchanged.
local function desired(o)
  if o.state == 'RUNNING' then return 'RUNNING' end
  if planned then return nil end
  if o.state == 'PAUSED' and (o.reason == 'user' or o.reason == '') then return 'PAUSED' end
  if (o.state == 'SHUTOFF' or o.state == 'ABSENT') and STOPPED_BY_USER[o.reason] then return 'SHUTOFF' end
  return nil
end

-- Its last run was here, in this boot, as far as is known: a word of its end that fits no such run is of an older copy.
local function ran_here(row) return (row.ran_in or '') == '' or row.ran_in == boot end

local function left_by_migration(o) return o.reason == 'migrated' and (o.state == 'SHUTOFF' or o.state == 'ABSENT') end

local function write(vm_id, row, changes)
  local list = {}
  for name, value in pairs(changes) do
    if row[name] ~= value then list[#list + 1] = name; list[#list + 1] = value end
  end
  if #list > 0 then redis.call('HSET', K_vm(vm_id), unpack(list)) end
  return #list > 0
end

-- The parts of a report that are the same for every owner.
local function described(o)
  local changes = {name = o.name, state = o.state, state_reason = o.reason, desired_state = desired(o)}
  if executes(o) then changes.ran_in = boot end
  if o.facts ~= '' then changes.facts = o.facts end
  if o.xml ~= '' and get(K_vm(o.id), 'domain_xml') ~= o.xml then changes.domain_xml = o.xml end
  if o.autostart == '1' then changes.autostart = '1' end
  return changes
end

-- The newest epoch of a domain that an evacuation created here and did not let execute; nil: it is none, or the time has not come.
local function orphan(o)
  if not orphans or o.state ~= 'AWAITING_ADMISSION' or num(o.claim) == 0 then return nil end
  return math.max(num(o.epoch), num(o.claim))
end

local function adopt(o)
  local waits = orphan(o)
  -- Any other domain that waits is a person's, and not vmha's before it executes.
  if o.state == 'ABSENT' or (o.state == 'AWAITING_ADMISSION' and not waits) or left_by_migration(o) then return end
  -- Its host was cut off and destroyed it, and the store has lost that it should run, and maybe where it was started since.
  local why = o.state == 'SHUTOFF' and o.reason == SELF_FENCED and 'SELF_FENCED' or ''
  local wanted = o.state == 'SHUTOFF' and 'SHUTOFF' or o.state == 'PAUSED' and 'PAUSED' or 'RUNNING'
  redis.call('HSET', K_vm(o.id), 'owner', me, 'owner_incarnation', incarnation,
    'epoch', int((waits or math.max(num(o.epoch), 0)) + 1), 'desired_state', wanted, 'unadmitted', waits and '1' or '0',
    'domain_xml', o.xml, 'facts', o.facts, 'autostart', o.autostart, 'name', o.name, 'state', o.state,
    'state_reason', o.reason, 'claim_id', '', 'claim_open', '0', 'reason', why, 'ran_in', executes(o) and boot or '')
  redis.call('SADD', K_vms(), o.id)
  redis.call('SADD', K_host_vms(me), o.id)
  note(adopted, o.id)
end

local function forget(o)
  for _, field in ipairs({'seen_on', 'moving_to'}) do
    local host = get(K_vm(o.id), field)
    if host ~= '' then redis.call('SREM', K_host_seen(host), o.id) end
  end
  redis.call('DEL', K_vm(o.id))
  redis.call('SREM', K_vms(), o.id)
  redis.call('SREM', K_host_vms(me), o.id)
  deleted[#deleted + 1] = o.id
end

-- The owner saw it leave; the host that reported it running meanwhile gets it.
local function hand_to_seen(o, row)
  local host = row.seen_on or ''
  if host == '' or row.seen_state == 'ABSENT' or not in_force(K_host(host), row.seen_incarnation) then return false end
  hand_over(o.id, me, host, row.seen_incarnation, num(row.epoch) + 1, '')
  redis.call('HSET', K_vm(o.id), 'state', 'RUNNING', 'state_reason', '', 'ran_in', get(K_host(host), 'boot_id'))
  note(moved, o.id)
  return true
end

-- The record was made after the store had lost the claim, from a domain found shut off without a word: where the old host had
-- booted, or where the start was still under way; or from one that its host had destroyed when its guard ended, and for which that
-- still holds the epoch from which the claim was made. Whoever has that record was told to start nothing.
local function take_in(o, row)
  local found_off = row.state == 'SHUTOFF' and row.desired_state == 'SHUTOFF' and row.claim_open ~= '1' and
    (row.state_reason == '' or row.state_reason == 'unknown' or row.state_reason == SELF_FENCED)
  local epoch = orphan(o)
  if not found_off or not epoch or epoch < num(row.epoch) then return false end
  hand_over(o.id, row.owner, me, incarnation, epoch + 1, '')
  write(o.id, row, described(o))
  redis.call('HSET', K_vm(o.id), 'desired_state', 'RUNNING', 'unadmitted', '1', 'reason', '')
  note(moved, o.id)
  return true
end

local function from_owner(o, row)
  if take_in(o, row) then return end
  -- A start under an evacuation's claim was not seen yet: "gone" may be an older copy's end, told late.
  local late = row.claim_open == '1' and num(o.epoch) < num(row.epoch)
  if late and not executes(o) then return end
  if o.state == 'ABSENT' and o.reason == 'undefined' and (row.desired_state == 'SHUTOFF' or ran_here(row)) then return forget(o) end
  -- Shut off without a word: the host has booted since, and what it had is where it was seen running.
  local unexplained = (o.state == 'ABSENT' or (o.state == 'SHUTOFF' and row.seen_state == 'RUNNING')) and
    (o.reason == '' or o.reason == 'unknown')
  if (unexplained or left_by_migration(o)) and hand_to_seen(o, row) then return end
  -- Gone without a word in the boot in which it was seen to execute: no agent was there when it left.
  local vanished = o.state == 'ABSENT' and unexplained and (row.state == 'RUNNING' or row.state == 'PAUSED') and row.ran_in == boot
  local changes = described(o)
  if executes(o) then
    changes.claim_open = '0'
    if row.unadmitted == '1' then changes.unadmitted = '0' end
    if row.withheld == '1' then changes.withheld = '0' end
    if row.ended_on then changes.ended_on = '' end
    if row.departed == '1' then changes.departed = '0' end
    if row.ended_epoch then changes.ended_epoch = '' end
    if o.state == 'RUNNING' then changes.reason = '' end
  elseif (vanished or (left_by_migration(o) and num(o.epoch) >= num(row.ended_epoch))) and row.desired_state ~= 'SHUTOFF' then
    changes.departed = '1'
    if (row.ended_on or '') ~= '' then
      for name, value in pairs(ended_elsewhere(o.id, true, me, o.epoch)) do changes[name] = value end
    end
  end
  -- The agent holds a newer epoch: the store has lost writes. Epochs only grow.
  if num(o.epoch) > num(changes.epoch or row.epoch) then changes.epoch = int(num(o.epoch)) end
  if write(o.id, row, changes) then note(updated, o.id) end
end

local function from_another(o, row)
  local dead = num(get(K_host(row.owner), 'dead_incarnation'))
  -- The owner died in the middle of a live migration, and this is where it ended.
  local left = o.state == 'RUNNING' and dead > 0 and dead >= num(row.owner_incarnation)
  local gone = row.state == 'ABSENT' or row.departed == '1' or left
  local newer_epoch = num(o.epoch) > num(row.epoch)
  if take_in(o, row) then return end
  if executes(o) and (gone or newer_epoch) then
    hand_over(o.id, row.owner, me, incarnation, math.max(num(row.epoch), num(o.epoch)) + 1, '')
    write(o.id, row, described(o))
    note(moved, o.id)
    return
  end
  if executes(o) then
    write(o.id, row, {seen_on = me, seen_incarnation = incarnation, seen_state = o.state})
    redis.call('SADD', K_host_seen(me), o.id)
  elseif row.seen_on == me then
    unsee(o.id, me)
  end
  -- It had come in, and this host's guard has ended it: where it had gone it is no more. What its owner saw may be told later.
  if row.seen_on == me and o.state == 'SHUTOFF' and o.reason == SELF_FENCED then write(o.id, row, ended_elsewhere(o.id, row.departed == '1', me, o.epoch)) end
  if o.state ~= 'ABSENT' then note(foreign, o.id) end
end

local reported = {}
for i = 6, #ARGV, 9 do
  local o = {id = ARGV[i], name = ARGV[i + 1], state = ARGV[i + 2], reason = ARGV[i + 3], xml = ARGV[i + 4], facts = ARGV[i + 5],
    epoch = ARGV[i + 6], autostart = ARGV[i + 7], claim = ARGV[i + 8]}
  reported[o.id] = true
  local values, row = redis.call('HMGET', K_vm(o.id), unpack(FIELDS)), {}
  for n, name in ipairs(FIELDS) do row[name] = values[n] or nil end
  if not row.owner then adopt(o) elseif row.owner == me then from_owner(o, row) else from_another(o, row) end
end
if full then
  for _, vm_id in ipairs(redis.call('SMEMBERS', K_host_vms(me))) do
    if not reported[vm_id] and get(K_vm(vm_id), 'state') == 'RUNNING' then note(absent, vm_id) end
  end
end
return {'OK', adopted, updated, moved, deleted, foreign, absent}
