-- uses: journal
-- uses: fenced
-- uses: seen
-- ARGV: evacuation_id, runner, state, terminal (1 or 0), reason, message, proof or ''.
local state, terminal, reason, message, proof = ARGV[3], ARGV[4] == '1', ARGV[5], ARGV[6], ARGV[7]
local row = fields(HEAD)
local same = row.state == state and row.reason == reason and row.message == message and (proof == '' or row.proof == proof)
local refusal = refused(ARGV[2])
if refusal and not (same and refusal[1] == 'EVACUATION_ENDED') then return refusal end
if same then return {'OK', redis.call('HGETALL', HEAD)} end
redis.call('HSET', HEAD, 'state', state, 'reason', reason, 'message', message)
if proof ~= '' and proof ~= row.proof then
  redis.call('HSET', HEAD, 'proof', proof)
  if row.proof == 'UNSPECIFIED' then
    redis.call('HSET', HEAD, 'proof_time_s', NOW)
    see_no_more(row.host_id, row.incarnation)
    local old = get(K_host(row.host_id), 'state')
    local detail = {host_id = row.host_id, old_state = 'HOST_STATE_' .. (old ~= '' and old or 'UNKNOWN'),
      new_state = 'HOST_STATE_FENCED', reason = proof, message = message}
    tell_host_state(row.host_id, ID, 'evac', 'FENCED', cjson.encode(detail))
  end
end
if terminal then redis.call('HSET', HEAD, 'ended', '1', 'end_time_s', NOW) end
record('')
state_event()
if terminal then
  if redis.call('HGET', K_draining(), row.host_id) == ID then
    redis.call('HDEL', K_draining(), row.host_id)
    redis.call('HDEL', K_host(row.host_id), 'drain_id', 'drain_stop', 'drain_before')
    bump()
  end
  if redis.call('HGET', K_evacuating(), row.host_id) == ID then redis.call('HDEL', K_evacuating(), row.host_id) end
  for _, key in ipairs({HEAD, K_entries(ID), K_history(ID)}) do redis.call('EXPIRE', key, FINISHED_TTL_S) end
end
return {'OK', redis.call('HGETALL', HEAD)}
