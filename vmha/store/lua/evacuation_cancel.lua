-- uses: journal
-- uses: draining
-- ARGV: evacuation_id, reason.
if not exists(HEAD) then return {'EVACUATION_UNKNOWN', 'evacuation_id', ID} end
if get(HEAD, 'kind') == 'DRAIN' then cancel_drain(get(HEAD, 'host_id'), ARGV[2], true) end
if get(HEAD, 'ended') ~= '1' and get(HEAD, 'cancel_requested') ~= '1' then
  redis.call('HSET', HEAD, 'cancel_requested', '1', 'message', ARGV[2])
  record('')
end
return {'OK', redis.call('HGETALL', HEAD)}
