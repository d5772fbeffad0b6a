-- VMs that a host says it executes, in words that came through its peers: only those of other owners are news (R13, R22).
-- ARGV: host_id, incarnation, then vm_id and state of each.
local me, incarnation = ARGV[1], ARGV[2]
if not in_force(K_host(me), incarnation) then return {'STALE_INCARNATION', 'host_id', me, 'incarnation', incarnation} end
for i = 3, #ARGV, 2 do
  local vm, state = K_vm(ARGV[i]), ARGV[i + 1]
  local owner = get(vm, 'owner')
  if owner ~= '' and owner ~= me then
    redis.call('HSET', vm, 'seen_on', me, 'seen_incarnation', incarnation, 'seen_state', state)
    redis.call('SADD', K_host_seen(me), ARGV[i])
  end
end
return {'OK'}
