-- uses: suspect_spans
-- ARGV: host_id, boot_id, cooldown (ms), TTL (ms), reason, evidence.
local key = K_suspect(ARGV[1])
if not exists(K_host(ARGV[1])) then return {'HOST_UNKNOWN', 'host_id', ARGV[1]} end
if not (exists(key) and get(key, 'boot_id') == ARGV[2]) then
  redis.call('DEL', key)
  redis.call('HSET', key, 'boot_id', ARGV[2], 'since_ms', int(NOW_MS), 'confirm_at_ms', int(NOW_MS + num(ARGV[3])),
    'reason', ARGV[5], 'evidence', ARGV[6])
  redis.call('PEXPIRE', key, ARGV[4])
end
return {'OK', suspect_row(key)}
