-- A batch of operations under one fence. Protocol version 1; specified by src/protocol/apply.rs.
-- KEYS: fence, seq, then one key per operation.
-- ARGV: the fence of the client; what operations that follow each other have in common (24 bytes for each run of them); what each
-- has of its own (30 bytes for each operation); then the payload of each. One that is long comes behind a whole header, as it is
-- to be stored.
-- Answers the stored fence if it is another one (nothing was done), else {seq, answer, answer, …}.
--
-- A server runs one script at a time, so its time is what counts. Nearly all operations are writes and touches of sessions that
-- are as one expects them: those are done in the loop at the end. All else is in `general`, which knows every case. What is made
-- outside of it is made for every batch, so it is little: `general` has no variable of its surroundings, each of which costs.
local call, try = redis.call, redis.pcall
local stored = call('GET', KEYS[1])
if stored ~= ARGV[1] then return stored end

-- Lua looks at every byte of each string that it makes. So a payload of this length, its header included, is not put together
-- here: it is stored as it came, and what only the server knows is written into its place.
local LONG = 2048

-- Answers: a positive number is the version of the record after the operation. One short of 2^53 is the last: a write adds one.
-- Gives the function that does one operation, and says whether it has changed something.
local function general(now, LONG)
  local call, try = redis.call, redis.pcall
  local pack, unpack, sub = struct.pack, struct.unpack, string.sub
  local ABSENT, DELETED, EXISTS, PENDING, APPLIED_0 = 0, -1, -2, -3, -4
  local CONFLICT, INSPECTED, UNEXPECTED, RECORD, FORWARDED = 1, 2, 4, 5, 6
  local LAST_VERSION = 9007199254740991
  local min, max = math.min, math.max

  local function applied(version)
    if version == 0 then return APPLIED_0 end
    return version
  end

  local function text(number)
    return string.format('%d', number)
  end

  -- What stands under a key: 'L' live, 'P' live and PENDING, 'T' tombstone, 'F' tombstone that forwards, '' nothing,
  -- 'G' garbage; of a record also version, absolute deadline and operation. A record whose stamp is older than `since` is a
  -- leftover of an earlier tenure, and nothing.
  local function look(header, since)
    if header == '' then return '' end
    local kind = sub(header, 1, 3)
    if kind == '\1L\0' then kind = 'L'
    elseif kind == '\1L\1' then kind = 'P'
    elseif kind == '\1T\0' or kind == '\1T\1' then kind = 'T'
    elseif kind == '\1T\2' then kind = 'F'
    else return 'G' end
    if #header < 35 then return 'G' end
    local stamp, operation, version, deadline = unpack('>I6c8I7I6', header, 9)
    if version > LAST_VERSION then return 'G' end
    if stamp < since then return '' end
    return kind, version, deadline, operation
  end

  local function header_of(key)
    return call('GETRANGE', key, '0', '34')
  end

  local function put(key, head, version, deadline, payload, expires)
    local numbers = pack('>I7I6', version, deadline)
    if #payload < LONG then
      call('SET', key, head .. numbers .. payload, 'PXAT', expires)
      return
    end
    call('SET', key, payload, 'PXAT', expires)
    -- Users may lack the permission, which is newer than they are.
    if type(try('SETRANGE', key, '22', numbers)) ~= 'number' then
      call('SET', key, head .. numbers .. sub(payload, 36), 'PXAT', expires)
    end
  end

  -- Whether the session of a tombstone that forwards may still be reached through it.
  local function lasts(record)
    return #record >= 41 and now < unpack('>I6', record, 36)
  end

  -- The answer where there is no session that could be changed.
  local function other(kind, header, key)
    if kind == '' then return ABSENT end
    if kind == 'F' then
      local record = call('GET', key)
      if lasts(record) then return {FORWARDED, record} end
      return DELETED
    end
    if kind == 'T' then return DELETED end
    return {UNEXPECTED, header}
  end

  -- What is left of a record; a key of ours without an expiry counts as one that expires at its absolute deadline.
  local function left(key, deadline)
    local remaining = call('PTTL', key)
    if remaining == -1 then remaining = deadline - now end
    return max(remaining, 0)
  end

  local function write(how, mode, since, key, idle, absolute, expected, head, payload)
    local header = header_of(key)
    local kind, version, deadline, operation = look(header, since)
    if kind == 'P' then
      if mode == 'u' then return PENDING end
      kind = 'L'
    end
    if kind == 'L' then
      if version == LAST_VERSION then return {UNEXPECTED, header} end
      -- This very write was here before, and nobody else since.
      if operation == sub(head, 15, 22) then return applied(version) end
      if deadline < now then return ABSENT end
      if how == 'c' or how == 'n' then return EXISTS end
      if how == 'v' and version ~= expected then return {CONFLICT, call('GET', key)} end
      version = version + 1
      -- While the token moves a session does not end sooner than it would have, so that copies of it that are still under
      -- way come too late.
      if mode ~= 's' then idle = max(idle, left(key, deadline)) end
    else
      if kind == 'F' and (how == 'c' or how == 'n') then return DELETED end
      if kind ~= '' or mode == 'u' or how == 's' or how == 'v' then return other(kind, header, key) end
      version, deadline = now, now + absolute
      if how == 'n' then
        version, deadline = expected, absolute
        if deadline < now then return ABSENT end
      end
    end
    put(key, head, version, deadline, payload, text(min(deadline, now + idle)))
    return applied(version), true
  end

  local function touch(mode, since, key, idle)
    local header = header_of(key)
    local kind, version, deadline = look(header, since)
    if kind == 'P' then
      if mode == 'u' then return PENDING end
      kind = 'L'
    end
    if kind ~= 'L' then return other(kind, header, key) end
    if version == LAST_VERSION then return {UNEXPECTED, header} end
    if deadline < now then return ABSENT end
    -- As with a write.
    if mode ~= 's' then idle = max(idle, left(key, deadline)) end
    call('PEXPIREAT', key, text(min(deadline, now + idle)))
    return applied(version), true
  end

  -- A log-out must succeed on whatever is there, and on a node that is out of memory: Redis lets a script that
  -- has begun with a write that needs no memory (the DEL) finish.
  local function delete(how, mode, since, key, floor, absolute, head)
    local header = try('GETRANGE', key, '0', '34')
    if type(header) ~= 'string' then header = 'a key of another type' end
    local kind, version, deadline = look(header, since)
    if kind == 'T' or kind == 'F' then return other(kind, header, key) end
    if kind == 'P' and mode == 'u' then return PENDING end
    if mode == 'u' and (kind == '' or kind == 'G') then return ABSENT end
    if kind == '' and how == 'd' then return ABSENT end
    if version and version < LAST_VERSION then
      version = version + 1
    else
      version, deadline = now, now + absolute
    end
    -- How long a leftover had to live is of no interest.
    local expires = now + floor
    if kind ~= '' then expires = expires + left(key, deadline) end
    if how == 'D' then expires = max(expires, deadline + floor) end
    call('DEL', key)
    call('SET', key, head .. pack('>I7I6', version, deadline), 'PXAT', text(expires))
    return version, true
  end

  -- The end of a session under this id, with what says where it goes on.
  local function forward(mode, since, key, floor, grace, expected, head, successor)
    local header = header_of(key)
    local kind, version, deadline, operation = look(header, since)
    if kind == 'F' and operation == sub(head, 15, 22) then return applied(version) end
    if kind == 'P' then
      if mode == 'u' then return PENDING end
      kind = 'L'
    end
    if kind ~= 'L' then return other(kind, header, key) end
    if version == LAST_VERSION then return {UNEXPECTED, header} end
    if deadline < now then return ABSENT end
    if version ~= expected then return {CONFLICT, call('GET', key)} end
    version = version + 1
    local expires = now + left(key, deadline) + floor
    call('SET', key, head .. pack('>I7I6I6', version, deadline, now + grace) .. successor, 'PXAT', text(expires))
    return version, true
  end

  local function inspect(since, key)
    local header = header_of(key)
    local kind, _, deadline = look(header, since)
    if kind ~= 'L' and kind ~= 'P' then return other(kind, header, key) end
    return {INSPECTED, header, left(key, deadline)}
  end

  local function recheck(since, key)
    local record = call('GET', key) or ''
    local header = sub(record, 1, 35)
    local kind = look(header, since)
    if kind == '' then return ABSENT end
    if kind == 'G' then return {UNEXPECTED, header} end
    if kind == 'F' and lasts(record) then return {FORWARDED, record} end
    return {RECORD, record}
  end

  -- Never overwrites a record. Garbage gives way to a log-out ('M') only, which must also pass a node that is out of memory.
  local function install(how, since, key, expires, deadline, version, head, payload)
    local header
    if how == 'M' then
      header = try('GETRANGE', key, '0', '34')
      if type(header) ~= 'string' then header = 'a key of another type' end
    else
      header = header_of(key)
    end
    local kind = look(header, since)
    if kind == 'G' then
      if how == 'm' then return {UNEXPECTED, header} end
    elseif kind ~= '' then
      return EXISTS
    end
    if expires < now then return ABSENT end
    if how == 'M' then call('DEL', key) end
    put(key, head, version, deadline, payload, text(expires))
    return applied(version), true
  end

  local function release(since, key)
    local header = header_of(key)
    local kind, version = look(header, since)
    if kind == 'F' then return DELETED end
    if kind ~= 'L' and kind ~= 'P' then return other(kind, header, key) end
    call('DEL', key)
    return applied(version), true
  end

  local function erase(key)
    local header = header_of(key)
    local kind = look(header, 0)
    if kind == '' then return ABSENT end
    if kind == 'G' then return {UNEXPECTED, header} end
    call('DEL', key)
    return APPLIED_0, true
  end

  return function(key, how, mode, since, a, b, own, payload)
    if how == 't' then return touch(mode, since, key, a) end
    if how == 'i' then return inspect(since, key) end
    if how == 'r' then return recheck(since, key) end
    if how == 'l' then return release(since, key) end
    if how == 'e' then return erase(key) end
    local version, head = unpack('>I8', own), sub(own, 9)
    if how == 'd' or how == 'D' then return delete(how, mode, since, key, a, b, head) end
    if how == 'm' or how == 'M' then return install(how, since, key, a, b, version, head, payload) end
    if how == 'f' then return forward(mode, since, key, a, b, version, head, payload) end
    return write(how, mode, since, key, a, b, version, head, payload)
  end
end

local pack, unpack, sub, format = struct.pack, struct.unpack, string.sub, string.format
-- A global variable costs each time.
local KEYS, ARGV = KEYS, ARGV
local time = call('TIME')
local now = time[1] * 1000 + (time[2] - time[2] % 1000) / 1000
local answers, operate, wrote = {0}, nil, false
-- Nearly all operations of a batch are alike but for their keys, payloads and operation numbers: the rest is looked at once for
-- each run of them.
local runs, run, ends_at = ARGV[2], 1, 3
local how, mode, since, a, b
local is_usual, touches, creates, compares
local own, at = ARGV[3], 1
-- A number costs as much to turn into text as a command, and the deadlines of a batch are few.
local shown, text
for i = 3, #KEYS do
  local key, payload = KEYS[i], ARGV[i + 1]
  if i == ends_at then
    local count
    count, how, mode, since, a, b = unpack('>I4c1c1I6I6I6', runs, run)
    run, ends_at = run + 24, i + count
    touches, creates, compares = how == 't', how == 'c' or how == 'u', how == 'v'
    is_usual = mode == 's' and (touches or creates or compares or how == 's')
  end
  local answer
  if is_usual and #payload < LONG then
    local header = try('GETRANGE', key, '0', '34')
    local version, deadline
    if header == '' then
      if creates then version, deadline = now, now + b end
    -- An error is a table, which has no length.
    elseif #header == 35 then
      -- Numbers that nobody asks for cost less than bytes that are skipped.
      local kind, _, stamp, _, operation, stands, ends = unpack('>I3I5I6I4I4I7I6', header)
      -- Format 1, live, no flag. Of the operation the half that counts: where that is equal, the general case looks at all of it.
      if kind == 0x014c00 and stamp >= since and stands > 0 and stands < 9007199254740991 and ends >= now then
        if touches then
          version, deadline = stands, ends
        elseif
          operation ~= unpack('>I4', own, at + 26)
          and how ~= 'c'
          and not (compares and stands ~= unpack('>I8', own, at))
        then
          version, deadline = stands + 1, ends
        end
      end
    end
    if version then
      local expires = now + a
      if expires > deadline then expires = deadline end
      if expires ~= shown then
        shown, text = expires, format('%d', expires)
      end
      local failed
      if touches then
        local done = try('PEXPIREAT', key, text)
        failed = type(done) == 'table' and done.err
      else
        -- What a SET answers is a table in any case.
        local head = sub(own, at + 8, at + 29)
        failed = try('SET', key, head .. pack('>I7I6', version, deadline) .. payload, 'PXAT', text).err
      end
      if failed then
        answer = {3, failed}
      else
        answer, wrote = version, true
      end
    end
  end
  if not answer then
    operate = operate or general(now, LONG)
    local ok, found, changed = pcall(operate, key, how, mode, since, a, b, sub(own, at, at + 29), payload)
    if not ok then
      found = {3, type(found) == 'table' and found.err or tostring(found)}
    elseif changed then
      wrote = true
    end
    answer = found
  end
  answers[i - 1], at = answer, at + 30
end
-- Last, because on a node out of memory it is allowed only after a write that was.
if wrote then
  local seq = try('INCR', KEYS[2])
  if type(seq) == 'number' then answers[1] = seq end
end
return answers
