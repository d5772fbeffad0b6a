-- Whether a host's clock runs wrong, and since when that was seen last. ARGV: host_id, suspect (1 or 0).
local host = K_host(ARGV[1])
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
if ARGV[2] == '1' then redis.call('HSET', host, 'clock_suspect_s', NOW) else redis.call('HDEL', host, 'clock_suspect_s') end
return {'OK', redis.call('HGETALL', host)}
