-- ARGV: settings, version or 0.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
if get(K_cluster(), 'config') ~= ARGV[1] then
  if ARGV[2] ~= '0' and get(K_cluster(), 'version') ~= ARGV[2] then return {'ETAG_MISMATCH'} end
  redis.call('HSET', K_cluster(), 'config', ARGV[1])
  bump()
end
return {'OK', redis.call('HGETALL', K_cluster())}
