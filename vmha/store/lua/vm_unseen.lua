-- What a host's whole inventory does not name any more does not run there. ARGV: host_id, incarnation, vm_ids.
local me, incarnation = ARGV[1], ARGV[2]
if not in_force(K_host(me), incarnation) then return {'STALE_INCARNATION', 'host_id', me, 'incarnation', incarnation} end
for i = 3, #ARGV do
  local vm = K_vm(ARGV[i])
  if get(vm, 'seen_on') == me then redis.call('HDEL', vm, 'seen_on', 'seen_incarnation', 'seen_state') end
  if get(vm, 'moving_to') ~= me then redis.call('SREM', K_host_seen(me), ARGV[i]) end
end
return {'OK'}
