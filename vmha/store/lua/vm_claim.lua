-- uses: journal
-- uses: ownership
-- uses: seen
-- Gives a VM to its target, compare-and-set. ARGV: evacuation_id, runner, vm_id, entry as it will be, from host, from incarnation,
-- from epoch, to host, to incarnation, again (1: from a target of this evacuation that refused it).
local vm_id, vm_json, from_id, from_incarnation, from_epoch = ARGV[3], ARGV[4], ARGV[5], num(ARGV[6]), num(ARGV[7])
local to_id, to_incarnation, again = ARGV[8], ARGV[9], ARGV[10] == '1'
local refusal = refused(ARGV[2])
if refusal then return refusal end
local head, vm = fields(HEAD), K_vm(vm_id)
if get(K_cluster(), 'awaited') ~= '' then return {'SAFE_MODE', 'evacuation_id', ID} end
if head.proof == 'UNSPECIFIED' then return {'EVACUATION_UNPROVEN', 'evacuation_id', ID} end
local values = redis.call('HMGET', vm, 'owner', 'owner_incarnation', 'epoch', 'claim_id', 'state', 'departed')
local row = {owner = values[1] or '', epoch = values[3] or '0'}
local owner_incarnation, claim_id = num(values[2] or '0'), values[4] or ''

if row.owner == to_id and owner_incarnation == num(to_incarnation) and num(row.epoch) == from_epoch + 1 and claim_id == ID then
  return {'OK', redis.call('HGET', K_entries(ID), vm_id)}
end
if row.owner ~= from_id or num(row.epoch) ~= from_epoch then return stale_vm(vm_id, row) end
if again then
  if claim_id ~= ID then return stale_vm(vm_id, row) end
  if values[5] == 'RUNNING' or values[5] == 'PAUSED' then return {'VM_RUNS_ON_TARGET', 'vm_id', vm_id, 'host_id', from_id} end
else
  -- A host that has registered again owns its VMs under a newer incarnation, and keeps them.
  if from_id ~= head.host_id or owner_incarnation > math.min(from_incarnation, num(head.incarnation)) then
    return stale_vm(vm_id, row)
  end
  if values[6] == '1' and going_to(vm_id, from_id) == '' and (get(vm, 'seen_on') == '' or seen_by(vm_id, from_id) ~= '') then
    return {'VM_MIGRATED_AWAY', 'vm_id', vm_id, 'host_id', from_id}
  end
end
local seen_on, seen_state = seen_by(vm_id, from_id)
if seen_on ~= '' then return {'VM_MIGRATING', 'vm_id', vm_id, 'host_id', seen_on, 'state', seen_state} end
local going = going_to(vm_id, from_id)
if going ~= '' then return {'VM_MIGRATING', 'vm_id', vm_id, 'host_id', going, 'state', 'ON_ITS_WAY'} end
if to_id == from_id or to_id == head.host_id or not in_force(K_host(to_id), to_incarnation) then
  return {'STALE_INCARNATION', 'host_id', to_id, 'incarnation', to_incarnation}
end
if num(get(K_host(to_id), 'config_confirmed')) < num(get(K_cluster(), 'config_version')) then
  return {'CONFIG_UNCONFIRMED', 'host_id', to_id}
end
local _, settled = put_entry(vm_id, vm_json)
if settled then return settled end
hand_over(vm_id, from_id, to_id, to_incarnation, from_epoch + 1, ID)
redis.call('HSET', vm, 'state', 'UNSPECIFIED', 'state_reason', '', 'reason', '')
record(vm_json)
vm_event(vm_json)
return {'OK', vm_json}
