package migrate

import "github.com/sealcache/sealcache/internal/rediscmd"

// scripts holds the scripts of a run. None fails on an entry of another type.
type scripts struct{ swap, look, drop, read, tag, rename rediscmd.Script }

func newScripts() scripts {
	return scripts{
		swap: rediscmd.NewScript(swapSource), look: rediscmd.NewScript(lookSource), drop: rediscmd.NewScript(dropSource),
		read: rediscmd.NewScript(readSource), tag: rediscmd.NewScript(tagSource), rename: rediscmd.NewScript(renameSource),
	}
}

// readOrTypeSource is a function that reads an entry. If the entry has another type, the function returns a table, which equals no
// value. It calls a command that Redis refuses for another reason again, and so ends the script with that error.
const readOrTypeSource = `
local function readOrType(command, key)
	local reply = redis.pcall(command, key)
	if type(reply) == 'table' and not string.find(reply.err, 'WRONGTYPE', 1, true) then return redis.call(command, key) end
	return reply
end
`

// swapSource writes entries that have not changed since they were read. KEYS: entries. ARGV has four for each. The
// first is the value that was read, or its end. The second is its length, or -1 if it is the whole value. The third
// is the new value. The fourth is when it has to expire at the latest, in Unix milliseconds, or 0. It returns for
// each 1 if it was written, 0 if it has changed, -1 if it does not exist. An entry keeps its expiry unless that is
// too late. The expiry comes first: if a command is refused, the new value must not be there without it.
const swapSource = readOrTypeSource + `
local result = {}
for i = 1, #KEYS do
	local key, old, size, last = KEYS[i], ARGV[4*i-3], tonumber(ARGV[4*i-2]), tonumber(ARGV[4*i])
	local same = false
	result[i] = 0
	if size < 0 then
		local now = readOrType('GET', key)
		if now == false then result[i] = -1 else same = now == old end
	else
		local now = readOrType('STRLEN', key)
		if now == 0 and redis.call('EXISTS', key) == 0 then result[i] = -1
		else same = now == size and redis.call('GETRANGE', key, -#old, -1) == old end
	end
	if same and last > 0 then
		local left, now = redis.call('PTTL', key), redis.call('TIME')
		if left < 0 or now[1] * 1000 + left > last then redis.call('PEXPIREAT', key, ARGV[4*i]) end
		if redis.call('EXISTS', key) == 0 then
			same = false
			result[i] = -1
		end
	end
	if same then
		redis.call('SET', key, ARGV[4*i-1], 'KEEPTTL')
		result[i] = 1
	end
end
return result`

// lookSource reports whether an entry has changed since it was read. KEYS: entry. ARGV: the first two of swapSource, and
// when the entry expires, or nothing if that does not matter. It returns 1 if it is the same, 0 if it has changed, -1 if it
// does not exist.
const lookSource = unlessChanged + `
return 1`

// dropSource deletes an entry that has not changed since it was read. KEYS, ARGV and what it returns are those of
// lookSource.
const dropSource = unlessChanged + `
return redis.call('DEL', KEYS[1])`

// unlessChanged returns from a script unless the entry is as it was read. ARGV[3] may be missing.
const unlessChanged = readOrTypeSource + `
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local old, size = ARGV[1], tonumber(ARGV[2])
if size < 0 then
	if readOrType('GET', KEYS[1]) ~= old then return 0 end
elseif readOrType('STRLEN', KEYS[1]) ~= size or redis.call('GETRANGE', KEYS[1], -#old, -1) ~= old then
	return 0
end
if ARGV[3] and redis.call('PEXPIRETIME', KEYS[1]) ~= tonumber(ARGV[3]) then return 0 end`

// renameSource writes the value of an entry under a new name and deletes the entry, if it still holds what was read. KEYS:
// entry, new name, names that must not exist. ARGV: those of lookSource, the new value, and when the new entry expires, as in readSource. It
// returns 1 if it did, 0 if the entry has changed, -1 if it does not exist, -2 if the new name is taken, -3 if another of the
// names exists. Redis keeps what a script has written before a command is refused. So DEL is tested first, and the expiry is set
// with the value.
const renameSource = unlessChanged + `
for i = 3, #KEYS do
	if redis.call('EXISTS', KEYS[i]) == 1 then return -3 end
end
if redis.call('EXISTS', KEYS[2]) == 1 then return -2 end
redis.call('DEL', KEYS[2])
if ARGV[5] == '-1' then redis.call('SET', KEYS[2], ARGV[4]) else redis.call('SET', KEYS[2], ARGV[4], 'PXAT', ARGV[5]) end
return redis.call('DEL', KEYS[1])`

// readSource reads a value and when it expires, in Unix milliseconds, -1 for never, -2 if it does not exist.
const readSource = `return {redis.call('GET', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1])}`

// tagSource adds members to a tag set. It may extend the life of the set, and never shortens it. KEYS: tag set. ARGV: when
// it expires, as above, and the members.
const tagSource = `
local new = redis.call('EXISTS', KEYS[1]) == 0
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
local till, now = tonumber(ARGV[1]), redis.call('PEXPIRETIME', KEYS[1])
if till < 0 then
	redis.call('PERSIST', KEYS[1])
elseif new or now >= 0 and now < till then
	redis.call('PEXPIREAT', KEYS[1], ARGV[1])
end
return 1`
