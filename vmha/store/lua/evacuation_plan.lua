-- uses: journal
-- ARGV: evacuation_id, runner, then vm_id and entry of each VM. A refusal of one comes before any is written.
local refusal = refused(ARGV[2])
if refusal then return refusal end
for i = 3, #ARGV, 2 do
  local old = redis.call('HGET', K_entries(ID), ARGV[i])
  local before = old and cjson.decode(old).outcome or 'UNSPECIFIED'
  if before ~= 'UNSPECIFIED' and before ~= 'PENDING' and before ~= cjson.decode(ARGV[i + 1]).outcome then
    return {'VM_SETTLED', 'evacuation_id', ID, 'vm_id', ARGV[i], 'outcome', before}
  end
end
local any = false
for i = 3, #ARGV, 2 do
  local changed = put_entry(ARGV[i], ARGV[i + 1])
  any = any or changed
end
if any then record('') end
return {'OK', redis.call('HGETALL', HEAD)}
