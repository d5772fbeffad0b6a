-- A host was suspected in vain: remembered for an hour, the newest 16. ARGV: host_id.
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
local stored, kept = get(host, 'flaps'), {}
for _, at in ipairs(stored == '' and {} or cjson.decode(stored)) do
  if num(at) > num(NOW) - 3600 then kept[#kept + 1] = at end
end
kept[#kept + 1] = NOW
while #kept > 16 do table.remove(kept, 1) end
redis.call('HSET', host, 'flaps', cjson.encode(kept))
return {'OK'}
