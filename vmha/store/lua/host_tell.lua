-- uses: fenced
-- ARGV: token, host_id, incident_id, actor, the new state, detail as JSON. Answers the revision, or '' when it was told already, or comes after the proof.
local done = redis.call('GET', K_event_token(ARGV[1]))
if done then return {'OK', done} end
local revision = tell_host_state(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
redis.call('SET', K_event_token(ARGV[1]), revision, 'EX', EVENT_TOKEN_TTL_S)
return {'OK', revision}
