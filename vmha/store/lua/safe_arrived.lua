-- uses: awaited
-- Hosts have said what they run. ARGV: host_id, ...
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
await_no_more(ARGV)
return {'OK', redis.call('HGETALL', K_cluster())}
