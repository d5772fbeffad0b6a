-- ARGV: evacuation_id.
if not exists(K_evacuation(ARGV[1])) then return {'EVACUATION_UNKNOWN', 'evacuation_id', ARGV[1]} end
return {'OK', redis.call('HGETALL', K_evacuation(ARGV[1]))}
