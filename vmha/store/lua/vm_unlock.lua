-- uses: journal
-- uses: seen
-- Lets go of a VM that did not leave its host. ARGV: drain_id, runner, vm_id, looked (1: nothing was sent, or both hosts were looked
-- at, and nothing of it is on its way any more).
local vm = K_vm(ARGV[3])
local refusal = refused(ARGV[2])
if refusal then return refusal end
if ARGV[4] == '1' and get(vm, 'moving_by') == ID then
  local host = get(vm, 'moving_to')
  redis.call('HDEL', vm, unpack(MOVE))
  -- What that host has said itself stays: somebody else may send the VM there.
  if get(vm, 'seen_on') ~= host then redis.call('SREM', K_host_seen(host), ARGV[3]) end
end
if get(vm, 'lock_id') == ID then redis.call('HDEL', vm, 'lock_id', 'lock_until_ms') end
return {'OK'}
