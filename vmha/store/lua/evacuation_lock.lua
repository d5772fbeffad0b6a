-- ARGV: acquire, renew or release; evacuation_id; runner; TTL (ms). Answers 1 when the runner holds it (or held it: release).
local act, key, runner = ARGV[1], K_runner(ARGV[2]), ARGV[3]
if not exists(K_evacuation(ARGV[2])) then return {'EVACUATION_UNKNOWN', 'evacuation_id', ARGV[2]} end
local holder = redis.call('GET', key)
if holder and holder ~= runner then return {'OK', 0} end
if act == 'release' then
  redis.call('DEL', key)
elseif act == 'acquire' or holder then
  redis.call('SET', key, runner, 'PX', ARGV[4])
else
  return {'OK', 0}
end
return {'OK', 1}
