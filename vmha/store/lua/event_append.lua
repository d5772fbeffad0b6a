-- ARGV: token, kind, incident_id, actor, detail (JSON). The token makes a repeat answer the first one's revision.
local done = redis.call('GET', K_event_token(ARGV[1]))
if done then return {'OK', done} end
if not exists(K_cluster()) then return {'CLUSTER_UNKNOWN'} end
local revision = append_event(ARGV[2], ARGV[3], ARGV[4], 'd', ARGV[5])
redis.call('SET', K_event_token(ARGV[1]), revision, 'EX', EVENT_TOKEN_TTL_S)
return {'OK', revision}
