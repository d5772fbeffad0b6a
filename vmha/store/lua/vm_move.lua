-- uses: ownership
-- ARGV: vm_id, from host, to host, its incarnation, epoch.
local id, from_id, to_id, incarnation, epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4], num(ARGV[5])
local row = fields(K_vm(id))
if not row.owner then return {'VM_UNKNOWN', 'vm_id', id} end
if not exists(K_host(to_id)) then return {'HOST_UNKNOWN', 'host_id', to_id} end
local repeated = row.owner == to_id and num(row.owner_incarnation) == num(incarnation) and num(row.epoch) == epoch + 1 and from_id ~= to_id
if not repeated then
  if row.owner ~= from_id or num(row.epoch) ~= epoch then return stale_vm(id, row) end
  if not in_force(K_host(to_id), incarnation) then return {'STALE_INCARNATION', 'host_id', to_id, 'incarnation', incarnation} end
  hand_over(id, from_id, to_id, incarnation, epoch + 1, '')
  redis.call('HSET', K_vm(id), 'ran_in', get(K_host(to_id), 'boot_id'))
end
return {'OK', redis.call('HGETALL', K_vm(id))}
