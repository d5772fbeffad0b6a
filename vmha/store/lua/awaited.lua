-- Safe mode (R20): the hosts that have not said yet what they run; none: it is over.
local function awaited()
  local stored = get(K_cluster(), 'awaited')
  return stored == '' and {} or cjson.decode(stored)
end

local function await(hosts)
  redis.call('HSET', K_cluster(), 'awaited', #hosts > 0 and cjson.encode(hosts) or '')
  decided()
end

local function await_no_more(host_ids)
  local gone, left, found = {}, {}, false
  for _, id in ipairs(host_ids) do gone[id] = true end
  for _, id in ipairs(awaited()) do
    if gone[id] then found = true else left[#left + 1] = id end
  end
  if found then await(left) end
  return found
end
