-- A batch of operations under one fence. Protocol version 1; specified by src/protocol/apply.rs.
-- KEYS: fence, seq, then one key per operation.
-- ARGV: the fence of the client, then two per operation: what to do (43 bytes) and the payload.
-- Answers the stored fence if it is another one (nothing was done), else {seq, answer, answer, …}.
local stored = redis.call('GET', KEYS[1])
if stored ~= ARGV[1] then return stored end

local call, pcall_redis = redis.call, redis.pcall
local pack, unpack, sub, min, max = struct.pack, struct.unpack, string.sub, math.min, math.max
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wrote = false

-- A number costs as much to pass to a command as the command itself, and the deadlines of a batch are few.
local texts = {}
local function text(number)
  local known = texts[number]
  if not known then
    known = string.format('%.0f', number)
    texts[number] = known
  end
  return known
end

local function header_of(key)
  return call('GETRANGE', key, '0', '35')
end

-- Answers: a positive number is the version of the record after the operation.
local ABSENT, DELETED, EXISTS = 0, -1, -2
local CONFLICT, INSPECTED, FAILED, UNEXPECTED = 1, 2, 3, 4
local LIVE, TOMBSTONE = '\1L\0', '\1T\0'

-- Version and absolute deadline of a live record's header; nil for anything else.
local function live(header)
  if #header < 36 or sub(header, 1, 3) ~= LIVE then return nil end
  local version, deadline = unpack('>I8I6', header, 23)
  if version >= 9007199254740991 then return nil end
  return version, deadline
end

local function dead(header)
  return #header >= 36 and sub(header, 1, 3) == TOMBSTONE and unpack('>I8', header, 23) < 9007199254740992
end

local function other(header)
  if header == '' then return ABSENT end
  if dead(header) then return DELETED end
  return {UNEXPECTED, header}
end

local function write(how, key, idle, absolute, expected, head, payload)
  local header = header_of(key)
  local version, deadline = live(header)
  if version then
    -- This very write was here before, and nobody else since.
    if sub(header, 15, 22) == sub(head, 15, 22) then return version end
    if deadline < now then return ABSENT end
    if how == 'c' then return EXISTS end
    if how == 'v' and version ~= expected then return {CONFLICT, call('GET', key)} end
    version = version + 1
  else
    if header ~= '' or how == 's' or how == 'v' then return other(header) end
    version, deadline = now, now + absolute
  end
  call('SET', key, head .. pack('>I8I6', version, deadline) .. payload, 'PXAT', text(min(deadline, now + idle)))
  wrote = true
  return version
end

local function touch(key, idle)
  local header = header_of(key)
  local version, deadline = live(header)
  if not version then return other(header) end
  if deadline < now then return ABSENT end
  call('PEXPIREAT', key, text(min(deadline, now + idle)))
  wrote = true
  return version
end

-- A log-out must succeed on whatever is there, and on a node that is out of memory: Redis lets a script that
-- has begun with a write that needs no memory (the DEL) finish.
local function delete(how, key, floor, absolute, head)
  local header = pcall_redis('GETRANGE', key, '0', '35')
  if type(header) ~= 'string' then header = 'a key of another type' end
  if dead(header) then return DELETED end
  if header == '' and how == 'd' then return ABSENT end
  local version, deadline = live(header)
  if version then version = version + 1 else version, deadline = now, now + absolute end
  local remaining = call('PTTL', key)
  if remaining == -1 then remaining = deadline - now end
  local expires = now + max(remaining, 0) + floor
  if how == 'D' then expires = max(expires, deadline + floor) end
  call('DEL', key)
  call('SET', key, head .. pack('>I8I6', version, deadline), 'PXAT', text(expires))
  wrote = true
  return version
end

local function inspect(key)
  local header = header_of(key)
  local version, deadline = live(header)
  if not version then return other(header) end
  local remaining = call('PTTL', key)
  if remaining == -1 then remaining = deadline - now end
  return {INSPECTED, header, remaining}
end

local function operate(key, what, payload)
  local how, a, b, expected = unpack('>c1I6I6I8', what)
  if how == 't' then return touch(key, a) end
  if how == 'i' then return inspect(key) end
  if how == 'd' or how == 'D' then return delete(how, key, a, b, sub(what, 22)) end
  return write(how, key, a, b, expected, sub(what, 22), payload)
end

local answers = {0}
for i = 3, #KEYS do
  local ok, answer = pcall(operate, KEYS[i], ARGV[2 * i - 4], ARGV[2 * i - 3])
  if not ok then answer = {FAILED, type(answer) == 'table' and answer.err or tostring(answer)} end
  answers[i - 1] = answer
end
-- Last, because on a node out of memory it is allowed only after a write that was.
if wrote then
  local seq = pcall_redis('INCR', KEYS[2])
  if type(seq) == 'number' then answers[1] = seq end
end
return answers
