-- uses: ownership
-- ARGV: vm_id, epoch.
local row = fields(K_vm(ARGV[1]))
if row.owner then
  if num(row.epoch) ~= num(ARGV[2]) then return stale_vm(ARGV[1], row) end
  redis.call('SREM', K_host_vms(row.owner), ARGV[1])
end
if row.seen_on then redis.call('SREM', K_host_seen(row.seen_on), ARGV[1]) end
if row.moving_to then redis.call('SREM', K_host_seen(row.moving_to), ARGV[1]) end
redis.call('DEL', K_vm(ARGV[1]))
redis.call('SREM', K_vms(), ARGV[1])
return {'OK'}
