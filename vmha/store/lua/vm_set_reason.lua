-- ARGV: vm_id, reason.
if not exists(K_vm(ARGV[1])) then return {'VM_UNKNOWN', 'vm_id', ARGV[1]} end
redis.call('HSET', K_vm(ARGV[1]), 'reason', ARGV[2])
return {'OK'}
