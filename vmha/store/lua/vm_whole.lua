-- uses: seen
-- What a host's whole inventory says of VMs that are not its own. ARGV: host_id, incarnation, whether what it does not name is not there
-- (1 or 0), how many it has off, for each of those the vm_id, whether the host's guard ended it, whether nobody hears its owner (1 or
-- 0); then all vm_ids that it names. Answers how many of them left their owner, ended here, and are the owner's to start.
local me, incarnation, believed, off = ARGV[1], ARGV[2], ARGV[3] == '1', num(ARGV[4])
local host, ended = K_host(me), 0
if not in_force(host, incarnation) then return {'STALE_INCARNATION', 'host_id', me, 'incarnation', incarnation} end
local known = redis.call('HMGET', host, 'boot_id', 'whole_boot', 'whole_generation')
local booted = known[2] ~= known[1]

-- Its definition came here after its last change of hands, for no older one was left at the last whole inventory. It had come in, no
-- manager heard of that, and it ended: by the guard, or with the host, which has booted since (R22).
for i = 5, 2 + 3 * off, 3 do
  local vm = K_vm(ARGV[i])
  local row = redis.call('HMGET', vm, 'owner', 'departed', 'handed_at', 'moving_to')
  local foreign = (row[1] or '') ~= '' and row[1] ~= me and (row[4] or '') == ''
  local came_in = (known[3] or '') ~= '' and num(known[3]) >= num(row[3]) and (booted or ARGV[i + 1] == '1')
  if foreign and came_in and (row[2] == '1' or ARGV[i + 2] == '1') then
    ended = ended + (row[2] == '1' and 1 or 0)
    for name, value in pairs(ended_elsewhere(ARGV[i], row[2] == '1', me, 0)) do redis.call('HSET', vm, name, value) end
  end
end
local named = {}
for i = 5 + 3 * off, #ARGV do named[ARGV[i]] = true end
for _, vm_id in ipairs(believed and redis.call('SMEMBERS', K_host_seen(me)) or {}) do
  if not named[vm_id] then unsee(vm_id, me) end
end
redis.call('HSET', host, 'whole_boot', known[1] or '',
  'whole_generation', off == 0 and int(num(get(K_cluster(), 'store_generation'))) or '')
return {'OK', ended}
