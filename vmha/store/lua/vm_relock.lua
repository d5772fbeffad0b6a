-- uses: journal
-- Holds the lock on. ARGV: drain_id, runner, vm_id, TTL (ms).
local refusal = refused(ARGV[2])
if refusal then return refusal end
local vm = K_vm(ARGV[3])
local holder = get(vm, 'lock_id')
if holder ~= ID then return {'VM_LOCKED', 'vm_id', ARGV[3], 'evacuation_id', holder} end
redis.call('HSET', vm, 'lock_until_ms', int(NOW_MS + num(ARGV[4])))
return {'OK'}
