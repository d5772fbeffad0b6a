-- ARGV: host_id, incident_id.
local open = redis.call('HGET', K_incidents(), ARGV[1])
if open and cjson.decode(open)[1] == ARGV[2] then
  redis.call('HDEL', K_incidents(), ARGV[1])
  redis.call('DEL', K_suspect(ARGV[1]))
end
if exists(K_host(ARGV[1])) and get(K_host(ARGV[1]), 'incident_id') == ARGV[2] then
  redis.call('HSET', K_host(ARGV[1]), 'incident_id', '')
end
return {'OK'}
