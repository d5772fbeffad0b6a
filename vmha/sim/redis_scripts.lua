-- What a script finds inside the Redis double: the functions of Redis's own Lua, without those that our scripts cannot use.
-- Called once with: call, decode, sha1hex, error, status, list, extend (Python). Answers compile, run, run_long.
local py_call, py_decode, py_sha1hex, py_error, py_status, py_list, py_extend = ...
local type, error, pairs, pcall, unpack, tostring, rawget, rawset = type, error, pairs, pcall, unpack, tostring, rawget, rawset
local floor, ceil, format, gsub, concat = math.floor, math.ceil, string.format, string.gsub, table.concat
local NULL = newproxy()

-- An answer that is one value comes as it is; others as nil, their kind and their parts.
local function answer(first, kind, ...)
  if first ~= nil then return first end
  if kind == 1 then return {...} end
  if kind == 2 then return {ok = (...)} end
  return {err = (...)}
end

local function try(...) return answer(py_call(...)) end

local function call(...)
  local reply = try(...)
  if type(reply) == 'table' and rawget(reply, 'err') then error(reply, 0) end
  return reply
end

-- Lua's pcall, but an error of Redis's comes as its text.
local function answered(good, value, ...)
  if not good and type(value) == 'table' and type(value.err) == 'string' then return false, value.err end
  return good, value, ...
end
local function redis_pcall(...) return answered(pcall(...)) end

-- cjson.encode

local ESCAPES = {['"'] = '\\"', ['\\'] = '\\\\', ['/'] = '\\/', ['\b'] = '\\b', ['\t'] = '\\t', ['\n'] = '\\n', ['\f'] = '\\f',
  ['\r'] = '\\r'}
local function escape(char) return ESCAPES[char] or format('\\u%04x', string.byte(char)) end
local function quoted(text) return '"' .. gsub(text, '[%c"\\/]', escape) .. '"' end

-- The length of an array; -1 when it is an object.
local function array_length(value)
  local most, items = 0, 0
  for key in pairs(value) do
    if type(key) ~= 'number' or key < 1 or floor(key) ~= key then return -1 end
    if key > most then most = key end
    items = items + 1
  end
  if most > items * 2 and most > 10 then error('Cannot serialise table: excessively sparse array', 0) end
  return most
end

local function number_text(value)
  if value ~= value or value == math.huge or value == -math.huge then
    error('Cannot serialise number: must not be NaN or Inf', 0)
  end
  return format('%.14g', value)
end

local encode
local function encode_table(value, out, depth)
  if depth > 1000 then error('Cannot serialise, excessive depth (1001)', 0) end
  local length = array_length(value)
  if length > 0 then
    for i = 1, length do
      out[#out + 1] = i == 1 and '[' or ','
      encode(value[i], out, depth)
    end
    out[#out + 1] = ']'
    return
  end
  local before = '{'
  for key, field in pairs(value) do
    local kind = type(key)
    if kind ~= 'string' and kind ~= 'number' then error('Cannot serialise table: table key must be a number or string', 0) end
    out[#out + 1] = before .. (kind == 'string' and quoted(key) or '"' .. number_text(key) .. '"') .. ':'
    before = ','
    encode(field, out, depth)
  end
  out[#out + 1] = before == '{' and '{}' or '}'
end

encode = function(value, out, depth)
  local kind = type(value)
  if kind == 'string' then
    out[#out + 1] = quoted(value)
  elseif kind == 'number' then
    out[#out + 1] = number_text(value)
  elseif kind == 'boolean' then
    out[#out + 1] = tostring(value)
  elseif value == nil or value == NULL then
    out[#out + 1] = 'null'
  elseif kind == 'table' then
    encode_table(value, out, depth + 1)
  else
    error('Cannot serialise ' .. kind .. ': type not supported', 0)
  end
end

local function cjson_encode(value)
  local out = {}
  encode(value, out, 0)
  return concat(out)
end

-- The globals: named ones only, and none can be made.

local env = {
  redis = {call = call, pcall = try, sha1hex = py_sha1hex, log = function() end, LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2,
    LOG_WARNING = 3, error_reply = function(text) return {err = text} end, status_reply = function(text) return {ok = text} end},
  cjson = {encode = cjson_encode, null = NULL, decode = function(text)
    local value, told = py_decode(text, NULL)
    if told then error(told, 0) end
    return value
  end},
  string = string, table = table, math = math, coroutine = coroutine, os = {clock = os.clock}, _VERSION = _VERSION,
  assert = assert, error = error, getmetatable = getmetatable, ipairs = ipairs, loadstring = loadstring, next = next, pairs = pairs,
  pcall = redis_pcall, rawequal = rawequal, rawget = rawget, rawset = rawset, select = select, setmetatable = setmetatable,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack, xpcall = xpcall,
}
env._G = env
setmetatable(env, {
  __index = function(_, name) error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2) end,
  __newindex = function() error('Attempt to modify a readonly table', 2) end,
})

local function compile(text)
  local script, told = loadstring(text, '@user_script')
  if not script then return nil, told end
  return setfenv(script, env)
end

-- What a script returns, as Python values: up to the first nil, numbers cut to integers, as Redis does.
local function reply(value, nested)
  local kind = type(value)
  if kind == 'string' then return value end
  if kind == 'number' then return value >= 0 and floor(value) or ceil(value) end
  if kind == 'boolean' then return value and 1 or nil end
  if kind ~= 'table' then return nil end
  if type(rawget(value, 'err')) == 'string' then return nested and value.err or py_error(value.err) end
  if type(rawget(value, 'ok')) == 'string' then return nested and value.ok or py_status(value.ok) end
  local out, count = {}, 0
  while true do
    local part = value[count + 1]
    if part == nil then break end
    count = count + 1
    out[count] = type(part) == 'string' and part or reply(part, true)
  end
  if count <= 1000 then return py_list(unpack(out, 1, count)) end
  local list = py_list()
  for i = 1, count, 1000 do py_extend(list, unpack(out, i, math.min(i + 999, count))) end
  return list
end

local function run_long(script, keys, argv)
  rawset(env, 'KEYS', keys)
  rawset(env, 'ARGV', argv)
  local good, value = pcall(script)
  if good then return reply(value) end
  if type(value) == 'table' and type(value.err) == 'string' then return py_error(value.err) end
  return py_error('ERR ' .. tostring(value))
end

-- Scripts of one key, all of ours.
local function run(script, key, ...) return run_long(script, {key}, {...}) end

return compile, run, run_long
