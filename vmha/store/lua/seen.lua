-- A host that said it executes a VM of another owner: a live migration under way, or ended before its source could say so (R22).
-- The VM is both hosts' until that host has said that nothing of it runs there, owns it, or is proven dead itself ('ABSENT').
local function seen_by(vm_id, owner)
  local row = redis.call('HMGET', K_vm(vm_id), 'seen_on', 'seen_state')
  local host, state = row[1] or '', row[2] or ''
  if host == '' or host == owner or state == 'ABSENT' or not exists(K_host(host)) then return '', '' end
  return host, state
end

-- Where the VM is being migrated to by a drain: written before libvirt is asked, so it stands also while that host's agent has not
-- said a word (R22). It goes when the VM has arrived, when both hosts were looked at, or when that host is proven dead.
local function going_to(vm_id, owner)
  local host = get(K_vm(vm_id), 'moving_to')
  if host == owner or not exists(K_host(host)) then return '' end
  return host
end

local MOVE = {'moving_to', 'moving_incarnation', 'moving_by'}

-- It has not arrived there, and never will: as if that host had said so itself.
local function goes_no_more(vm_id)
  local vm = K_vm(vm_id)
  local host, incarnation, seen_on = get(vm, 'moving_to'), get(vm, 'moving_incarnation'), get(vm, 'seen_on')
  if host == '' then return end
  redis.call('HDEL', vm, unpack(MOVE))
  if seen_on == '' or seen_on == host then
    redis.call('HSET', vm, 'seen_on', host, 'seen_incarnation', incarnation, 'seen_state', 'ABSENT')
  else
    redis.call('SREM', K_host_seen(host), vm_id)
  end
end

-- What a host had under a registration whose end is proven, ends with it.
local function see_no_more(host_id, incarnation)
  local host = K_host(host_id)
  if not exists(host) or num(incarnation) <= num(get(host, 'dead_incarnation')) then return end
  redis.call('HSET', host, 'dead_incarnation', incarnation)
  for _, vm_id in ipairs(redis.call('SMEMBERS', K_host_seen(host_id))) do
    local row = redis.call('HMGET', K_vm(vm_id), 'seen_on', 'seen_incarnation', 'moving_to', 'moving_incarnation')
    if row[1] == host_id and num(row[2]) <= num(incarnation) then redis.call('HSET', K_vm(vm_id), 'seen_state', 'ABSENT') end
    if row[3] == host_id and num(row[4]) <= num(incarnation) then goes_no_more(vm_id) end
  end
end

-- It is not at a host that had said it executes it.
local function unsee(vm_id, host_id)
  local vm = K_vm(vm_id)
  if get(vm, 'seen_on') == host_id then redis.call('HDEL', vm, 'seen_on', 'seen_incarnation', 'seen_state') end
  if get(vm, 'moving_to') ~= host_id then redis.call('SREM', K_host_seen(host_id), vm_id) end
end

-- What to write of a VM that has ended on a host to which it had come. When it has left its owner, too, it runs nowhere, and is its
-- owner's to start (R22). Either half may be told first. `epoch` is the newest that was heard: the same word of its owner, said
-- again, is of an older one from then on.
local function ended_elsewhere(vm_id, departed, host_id, epoch)
  if not departed then return {ended_on = host_id} end
  redis.call('SADD', K_withheld(), vm_id)
  local ended = int(math.max(num(epoch), num(get(K_vm(vm_id), 'epoch'))) + 1)
  return {departed = '0', ended_on = '', withheld = '1', epoch = ended, ended_epoch = ended}
end
