-- A confirmation that was not answered. ARGV: host_id, its number. Answers the open incident; or '', and then that confirmation and
-- those before it make none any more, however late Redis gets to read them.
local open = redis.call('HGET', K_incidents(), ARGV[1])
if open then return {'OK', open} end
if exists(K_host(ARGV[1])) then
  redis.call('HSET', K_host(ARGV[1]), 'refused_term', int(TERM), 'refused_ask', ARGV[2])
end
redis.call('DEL', K_suspect(ARGV[1]))
return {'OK', ''}
