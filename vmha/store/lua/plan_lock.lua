-- One plan at a time in a cluster. ARGV: acquire or release, runner, TTL (ms). Answers 1 when the runner holds it (or held it: release).
local holder = redis.call('GET', K_planning())
if holder and holder ~= ARGV[2] then return {'OK', 0} end
if ARGV[1] == 'release' then redis.call('DEL', K_planning()) else redis.call('SET', K_planning(), ARGV[2], 'PX', ARGV[3]) end
return {'OK', 1}
