-- uses: journal
-- uses: ownership
-- uses: seen
-- Gives a VM to the one who moves or stops it, for a while; with a target, writes down where it goes before libvirt is asked.
-- ARGV: drain_id, runner, vm_id, TTL (ms), its host, its epoch, target or '', the target's incarnation.
local vm_id, ttl_ms, from_id, epoch, to_id, to_incarnation = ARGV[3], num(ARGV[4]), ARGV[5], num(ARGV[6]), ARGV[7], ARGV[8]
local refusal = refused(ARGV[2])
if refusal then return refusal end
if get(K_cluster(), 'awaited') ~= '' then return {'SAFE_MODE', 'evacuation_id', ID} end
local vm = K_vm(vm_id)
local row = fields(vm)
if not row.owner then return {'VM_UNKNOWN', 'vm_id', vm_id} end
if row.owner ~= from_id or num(row.epoch) ~= epoch then return stale_vm(vm_id, row) end
-- Its host was given up, or is: what becomes of the VM is an evacuation's to say.
if not in_force(K_host(from_id), row.owner_incarnation) then
  return {'STALE_INCARNATION', 'host_id', from_id, 'incarnation', row.owner_incarnation}
end
local held = (row.lock_id or '') ~= '' and num(row.lock_until_ms) > NOW_MS
if held and row.lock_id ~= ID then return {'VM_LOCKED', 'vm_id', vm_id, 'evacuation_id', row.lock_id} end
if row.claim_open == '1' then return {'VM_LOCKED', 'vm_id', vm_id, 'evacuation_id', row.claim_id or ''} end
local seen_on, seen_state = seen_by(vm_id, from_id)
local going = going_to(vm_id, from_id)
for _, host in ipairs({seen_on, going}) do
  if host ~= '' and not (host == to_id and row.moving_by == ID) then
    return {'VM_MIGRATING', 'vm_id', vm_id, 'host_id', host, 'state', host == going and 'ON_ITS_WAY' or seen_state}
  end
end
if to_id ~= '' then
  if to_id == from_id or not in_force(K_host(to_id), to_incarnation) then
    return {'STALE_INCARNATION', 'host_id', to_id, 'incarnation', to_incarnation}
  end
  if num(get(K_host(to_id), 'config_confirmed')) < num(get(K_cluster(), 'config_version')) then
    return {'CONFIG_UNCONFIRMED', 'host_id', to_id}
  end
  if going ~= to_id then
    redis.call('HSET', vm, 'moving_to', to_id, 'moving_incarnation', to_incarnation, 'moving_by', ID)
    redis.call('SADD', K_host_seen(to_id), vm_id)
    decided()
  end
end
redis.call('HSET', vm, 'lock_id', ID, 'lock_until_ms', int(NOW_MS + ttl_ms))
return {'OK'}
