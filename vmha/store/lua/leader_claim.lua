-- Takes the lead under a new term when nobody else holds it. The term grows even when the store has lost the last one.
-- Where the cluster itself is lost, who led it last has the first word: it remembers most of it.
-- ARGV: holder, manager_id, address, lease (ms), highest term that the claimant knows, 1 when it may lead a lost cluster.
-- Answers 1 or 0, the term (of the claim, or the newest on record), the holder's row, how long it lasts (ms).
local holder, manager_id, address, lease_ms, known = ARGV[1], ARGV[2], ARGV[3], ARGV[4], num(ARGV[5])
if exists(K_tombstone()) then return {'CLUSTER_UNKNOWN'} end
local newest = num(redis.call('GET', K_term()))
if exists(K_leader()) and get(K_leader(), 'holder') ~= holder then
  return {'OK', 0, int(newest), redis.call('HGETALL', K_leader()), redis.call('PTTL', K_leader())}
end
if ARGV[6] ~= '1' and not exists(K_cluster()) then return {'OK', 0, int(newest), {}, tonumber(lease_ms)} end
local term = newer(math.max(newest, known))
redis.call('SET', K_term(), term)
redis.call('DEL', K_leader())
redis.call('HSET', K_leader(), 'holder', holder, 'manager_id', manager_id, 'address', address, 'term', term)
redis.call('PEXPIRE', K_leader(), lease_ms)
return {'OK', 1, term, redis.call('HGETALL', K_leader()), tonumber(lease_ms)}
