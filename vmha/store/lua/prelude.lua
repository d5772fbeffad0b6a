-- Shared by all scripts; put before each of them, after the key functions made from keys.py.
-- KEYS[1] is the cluster's key; every other key is in its slot and named by a K_ function.
-- A reply is {'OK', ...} or {REASON, name, value, ...}: a refusal changes nothing.
-- Numbers that grow (epochs, incarnations) are written by int(): exact up to 2^53.
local TIME = redis.call('TIME')
local NOW = TIME[1] .. '.' .. string.rep('0', 6 - #TIME[2]) .. TIME[2]
local NOW_MS = tonumber(TIME[1]) * 1000 + math.floor(tonumber(TIME[2]) / 1000)
local EVENTS_KEPT, FINISHED_TTL_S, EVACUATIONS_KEPT = @EVENTS_KEPT@, @FINISHED_TTL_S@, @EVACUATIONS_KEPT@
local TOMBSTONE_TTL_S, EVENT_TOKEN_TTL_S = @TOMBSTONE_TTL_S@, @EVENT_TOKEN_TTL_S@

local function num(text) return tonumber(text or 0) or 0 end
local function int(number) return string.format('%.0f', number) end

-- A number that no earlier one equals, even when Redis has lost the earlier one.
local function newer(old) return int(math.max(num(old) + 1, NOW_MS)) end

local function fields(key)
  local flat, map = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local function exists(key) return redis.call('EXISTS', key) == 1 end

local function get(key, field) return redis.call('HGET', key, field) or '' end

-- The first argument is the term of the leader that acts, and no script counts it; 0: an operator, an agent or the evacuator does.
-- An older term than the newest on record decides nothing any more (R19). One that the store has lost is written down again.
local TERM = num(table.remove(ARGV, 1))
if TERM > 0 then
  local newest = num(redis.call('GET', K_term()))
  if TERM < newest then return {'STALE_LEADER_TERM', 'term', int(TERM), 'newest_term', int(newest)} end
  if TERM > newest and exists(K_cluster()) then redis.call('SET', K_term(), int(TERM)) end
end

-- Configuration changed: the cluster's etag.
local function bump()
  redis.call('HSET', K_cluster(), 'version', newer(get(K_cluster(), 'version')))
end

-- A durable decision was made: agents carry the highest number on, so that a store that lost one is found out (R20).
local function decided()
  redis.call('HINCRBY', K_cluster(), 'store_generation', 1)
end

-- The registration named is the one in force; 0 is none.
local function in_force(host, incarnation)
  local row = redis.call('HMGET', host, 'config', 'incarnation', 'incarnation_revoked')
  return row[1] and num(incarnation) > 0 and num(row[2]) == num(incarnation) and row[3] ~= '1'
end

local function append_event(kind, incident, actor, ...)
  local last = redis.call('XREVRANGE', K_events(), '+', '-', 'COUNT', 1)[1]
  local revision = last and int(num(string.match(last[1], '^%d+')) + 1) or int(NOW_MS)
  redis.call('XADD', K_events(), 'MAXLEN', '~', EVENTS_KEPT, revision .. '-0',
    't', NOW, 'k', kind, 'i', incident, 'a', actor, ...)
  return revision
end
