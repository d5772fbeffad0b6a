-- A host that said it executes a VM of another owner: a live migration under way, or ended before its source could say so (R22).
-- The VM is both hosts' until that host has said that nothing of it runs there, owns it, or is proven dead itself ('ABSENT').
local function seen_by(vm_id, owner)
  local row = redis.call('HMGET', K_vm(vm_id), 'seen_on', 'seen_state')
  local host, state = row[1] or '', row[2] or ''
  if host == '' or host == owner or state == 'ABSENT' or not exists(K_host(host)) then return '', '' end
  return host, state
end

-- What a host had under a registration whose end is proven, ends with it.
local function see_no_more(host_id, incarnation)
  local host = K_host(host_id)
  if not exists(host) or num(incarnation) <= num(get(host, 'dead_incarnation')) then return end
  redis.call('HSET', host, 'dead_incarnation', incarnation)
  for _, vm_id in ipairs(redis.call('SMEMBERS', K_host_seen(host_id))) do
    local row = redis.call('HMGET', K_vm(vm_id), 'seen_on', 'seen_incarnation')
    if row[1] == host_id and num(row[2]) <= num(incarnation) then redis.call('HSET', K_vm(vm_id), 'seen_state', 'ABSENT') end
  end
end
