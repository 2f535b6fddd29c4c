-- One command of the control plane. Protocol version 1; specified by src/protocol/control.rs.
-- KEYS: node, incarnation, fence, document, ballot, void. ARGV: a letter that says what to do, then its arguments.
-- Numbers are big-endian and of fixed width; a slot is a fence, or '' for the decision of a node without one.
local call, sub, byte = redis.call, string.sub, string.byte
local NODE, INCARNATION, FENCE, DOCUMENT, BALLOT, VOID = unpack(KEYS)
local what = ARGV[1]
local owner, incarnation, fence = call('GET', NODE), call('GET', INCARNATION), call('GET', FENCE)

-- Whether bytes stand before others of the same length. (Lua compares strings by the server's locale.)
local function less(a, b)
  for i = 1, #a do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end

-- On a node that is out of memory Redis lets a script finish that has begun with a write that needs none.
local function begin_writing()
  call('DEL', VOID)
end

local function standing(letter, ...)
  return {letter, owner, incarnation, fence, ...}
end

local function may_be(name)
  return not owner or owner == name
end

-- Promised ballot, then the accepted one and its document, if there is one; and an answer, if the ballot is not let in.
local function admit(slot, ballot)
  local concerned
  if slot == '' then concerned = not fence else concerned = fence == slot end
  if not concerned then return nil, standing('R') end
  local vote = call('GET', BALLOT) or ''
  if #vote ~= 0 and #vote ~= 16 and #vote < 32 then
    return nil, redis.error_reply('ERR CORRUPT ' .. BALLOT .. ' holds something else')
  end
  local promised = sub(vote, 1, 16)
  if promised ~= '' and less(ballot, promised) then return nil, {'O', promised} end
  return vote
end

if what == 'l' then return standing('S') end

if what == 'L' then return standing('L', call('GET', DOCUMENT)) end

if what == 'm' then
  local name, given = ARGV[2], ARGV[3]
  if not fence and may_be(name) and not (incarnation and #incarnation == 8) then
    begin_writing()
    call('SET', INCARNATION, given)
    incarnation = given
  end
  return standing('S')
end

if what == 'p' then
  local slot, ballot = ARGV[2], ARGV[3]
  local vote, answer = admit(slot, ballot)
  if not vote then return answer end
  if sub(vote, 1, 16) ~= ballot then
    begin_writing()
    call('SET', BALLOT, ballot .. sub(vote, 17))
  end
  if #vote <= 16 then return standing('P') end
  return standing('P', sub(vote, 17, 32), sub(vote, 33))
end

if what == 'a' then
  local slot, ballot, document = ARGV[2], ARGV[3], ARGV[4]
  local vote, answer = admit(slot, ballot)
  if not vote then return answer end
  begin_writing()
  call('SET', BALLOT, ballot .. ballot .. document)
  return {'A'}
end

-- Whether the node may be made to obey `new`: it obeys nothing, or an older fence of the same ring.
local function succeeds(new)
  if not fence then return true end
  local protocol = byte(fence, 1)
  return #fence == 25 and protocol >= 1 and protocol <= byte(new, 1)
    and sub(fence, 2, 9) == sub(new, 2, 9) and less(sub(fence, 10, 17), sub(new, 10, 17))
end

if what == 'r' then
  local name, new, document, named = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
  if may_be(name) and incarnation == named and succeeds(new) then
    begin_writing()
    -- The fence is the one that makes the rest valid, and the votes were for what came after the old one.
    call('SET', DOCUMENT, document)
    call('SET', NODE, name)
    call('SET', FENCE, new)
    call('DEL', BALLOT)
    owner, fence = name, new
  end
  return standing('S')
end

if what == 'd' then
  local named, successor = ARGV[2], ARGV[3]
  if fence and incarnation == named then
    -- Without its fence it is nobody's, whatever else is still there.
    call('DEL', FENCE)
    call('DEL', DOCUMENT, BALLOT)
    call('SET', INCARNATION, successor)
    incarnation, fence = successor, false
  end
  return standing('S')
end

return redis.error_reply('ERR unknown command ' .. what)
