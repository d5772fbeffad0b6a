-- ARGV: host_id, boot_id, evidence, operator (1 or 0), a new incident_id, fence_decides (1 or 0), the
-- number of this asking in its leader's term. Answers the incident, or '' when nothing is confirmed.
local id, boot_id, evidence, operator, incident_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local fence_decides, ask = ARGV[6], num(ARGV[7])
local host = K_host(id)
if not exists(host) then return {'HOST_UNKNOWN', 'host_id', id} end
local row = fields(host)
local open = redis.call('HGET', K_incidents(), id)
if open then
  if cjson.decode(open)[3] == boot_id then return {'OK', open} end
  return {'OK', ''}
end
if (row.boot_id or '') ~= boot_id then return {'OK', ''} end
-- Its leader was told that it made none.
if num(row.refused_term) == TERM and ask <= num(row.refused_ask) then return {'OK', ''} end
if not operator then
  local suspect = fields(K_suspect(id))
  -- The manager's clock decides when; this one only catches a cooldown that was not waited for. 1 s for their difference.
  if suspect.boot_id ~= boot_id or num(suspect.confirm_at_ms) > NOW_MS + 1000 then return {'OK', ''} end
end
local fence_epoch = newer(row.fence_epoch)
local incident = cjson.encode({incident_id, id, boot_id, int(num(row.incarnation)), fence_epoch, evidence, fence_decides})
redis.call('HSET', K_incidents(), id, incident)
redis.call('HSET', host, 'fence_epoch', fence_epoch, 'incarnation_revoked', '1', 'incident_id', incident_id,
  'state', 'DOWN', 'state_reason', operator and 'OPERATOR_CONFIRMED_OFF' or 'CONFIRMED_DOWN', 'state_message', evidence, 'state_time_s', NOW)
-- An offer that was made before the failure must not come in force after it.
redis.call('HDEL', host, 'offer_token', 'offer_incarnation')
if operator and (row.confirmed_off_by or '') ~= '' and num(row.confirmed_off_epoch) == num(row.fence_epoch) then
  redis.call('HSET', host, 'confirmed_off_epoch', fence_epoch)
end
redis.call('DEL', K_suspect(id))
decided()
return {'OK', incident}
