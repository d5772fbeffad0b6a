-- uses: journal
-- uses: seen
-- Lets go of a VM that did not leave its host. ARGV: drain_id, runner, vm_id, looked (1: both hosts were looked at, and nothing of it
-- is on its way any more).
local vm = K_vm(ARGV[3])
local refusal = refused(ARGV[2])
if refusal then return refusal end
if ARGV[4] == '1' and get(vm, 'moving_by') == ID then goes_no_more(ARGV[3]) end
if get(vm, 'lock_id') == ID then redis.call('HDEL', vm, 'lock_id', 'lock_until_ms') end
return {'OK'}
