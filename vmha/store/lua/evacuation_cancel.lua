-- uses: journal
-- uses: draining
-- ARGV: evacuation_id, reason.
if not exists(HEAD) then return {'EVACUATION_UNKNOWN', 'evacuation_id', ID} end
local host_id = get(HEAD, 'host_id')
-- A host that is drained again has another drain than one that has ended.
if get(HEAD, 'kind') == 'DRAIN' and drain_of(K_host(host_id)) == ID then cancel_drain(host_id, ARGV[2], true) end
if get(HEAD, 'ended') ~= '1' and get(HEAD, 'cancel_requested') ~= '1' then
  redis.call('HSET', HEAD, 'cancel_requested', '1', 'message', ARGV[2])
  record('')
end
return {'OK', redis.call('HGETALL', HEAD)}
