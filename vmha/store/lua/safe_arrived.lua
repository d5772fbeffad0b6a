-- uses: awaited
-- A host has said what it runs. ARGV: host_id.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
await_no_more(ARGV[1])
return {'OK', redis.call('HGETALL', K_cluster())}
