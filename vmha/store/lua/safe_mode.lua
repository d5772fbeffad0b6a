-- uses: awaited
-- The store has lost writes. ARGV: the highest generation that was seen, hosts to wait for. Entered twice: only the number grows.
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
if num(get(K_cluster(), 'store_generation')) < num(ARGV[1]) then redis.call('HSET', K_cluster(), 'store_generation', ARGV[1]) end
if #awaited() == 0 then
  local hosts = {}
  for i = 2, #ARGV do hosts[#hosts + 1] = ARGV[i] end
  await(hosts)
else
  decided()
end
return {'OK', redis.call('HGETALL', K_cluster())}
