-- ARGV: host_id.
redis.call('DEL', K_suspect(ARGV[1]))
return {'OK'}
