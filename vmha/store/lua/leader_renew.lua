-- More time for the holder of a term, as long as no newer term is on record. A record that ran out, or that a failover lost, is
-- written again: nobody has led since. ARGV: holder, manager_id, address, lease (ms), term, what the leader shows (JSON).
-- Answers as leader_claim.
local holder, manager_id, address, lease_ms, term, view = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if exists(K_tombstone()) then return {'CLUSTER_UNKNOWN'} end
local newest = num(redis.call('GET', K_term()))
local other = exists(K_leader()) and get(K_leader(), 'holder') ~= holder
if other or newest > num(term) then
  return {'OK', 0, int(newest), redis.call('HGETALL', K_leader()), math.max(0, redis.call('PTTL', K_leader()))}
end
redis.call('SET', K_term(), term)
redis.call('HSET', K_leader(), 'holder', holder, 'manager_id', manager_id, 'address', address, 'term', term, 'view', view)
redis.call('PEXPIRE', K_leader(), lease_ms)
return {'OK', 1, term, redis.call('HGETALL', K_leader()), tonumber(lease_ms)}
