package migrate

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names a script by its SHA-1
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// Every key that a script touches is declared, as Cluster and ACLs demand. None fails on an entry of another type.

// swapSource writes entries that are still what was read. KEYS: entries. ARGV, three for each: what was read, or the end
// of it; its length, or -1 if it is the whole; the new value. It returns for each 1 if it was written, 0 if it has
// changed, -1 if it is gone. An entry keeps its expiry as it is.
const swapSource = `
local result = {}
for i = 1, #KEYS do
	local key, old, size = KEYS[i], ARGV[3*i-2], tonumber(ARGV[3*i-1])
	local same = false
	result[i] = 0
	if size < 0 then
		local now = redis.pcall('GET', key)
		if now == false then result[i] = -1 else same = now == old end
	else
		local now = redis.pcall('STRLEN', key)
		if now == 0 and redis.call('EXISTS', key) == 0 then result[i] = -1
		else same = now == size and redis.call('GETRANGE', key, -#old, -1) == old end
	end
	if same then
		redis.call('SET', key, ARGV[3*i], 'KEEPTTL')
		result[i] = 1
	end
end
return result`

// dropSource deletes an entry that is still what was read. KEYS: entry. ARGV as in swapSource, without the new value. It
// returns 1 if it was deleted, 0 if it has changed, -1 if it is gone.
const dropSource = `
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local old, size = ARGV[1], tonumber(ARGV[2])
if size < 0 then
	if redis.pcall('GET', KEYS[1]) ~= old then return 0 end
elseif redis.pcall('STRLEN', KEYS[1]) ~= size or redis.call('GETRANGE', KEYS[1], -#old, -1) ~= old then
	return 0
end
return redis.call('UNLINK', KEYS[1])`

// readSource reads a value with the time at which it expires, in Unix milliseconds, -1 for never, -2 if there is none.
const readSource = `return {redis.call('GET', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1])}`

// tagSource adds members to a tag set, whose life it extends and never shortens. KEYS: tag set. ARGV: the time at which it
// expires as above, members.
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

// script is Lua that a node knows by its digest after the first call.
type script struct{ source, digest string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // Redis names a script by its SHA-1
	return script{source, hex.EncodeToString(sum[:])}
}

// call is one call of a script.
type call struct {
	keys []string
	args []any
	cmd  *redis.Cmd
}

func (c *call) command(ctx context.Context, name, body string) *redis.Cmd {
	all := make([]any, 0, 3+len(c.keys)+len(c.args))
	all = append(all, name, body, len(c.keys))
	for _, k := range c.keys {
		all = append(all, k)
	}
	c.cmd = redis.NewCmd(ctx, append(all, c.args...)...)
	c.cmd.SetFirstKeyPos(3)
	return c.cmd
}

// runScript makes all calls in one pipeline, and those whose node did not know the script once more with its source.
func (s *servers) runScript(ctx context.Context, source string, calls []*call) error {
	if len(calls) == 0 {
		return nil
	}
	sc := newScript(source)
	err := s.pipelined(ctx, func(p redis.Pipeliner) {
		for _, c := range calls {
			_ = p.Process(ctx, c.command(ctx, "evalsha", sc.digest))
		}
	})
	if err != nil {
		return err
	}
	var unknown []*call
	for _, c := range calls {
		if redis.HasErrorPrefix(c.cmd.Err(), "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	// Few with the source, so that each node learns it, then the rest.
	for len(unknown) > 0 {
		n := len(unknown)
		if n > 64 {
			n = 64
		}
		err := s.pipelined(ctx, func(p redis.Pipeliner) {
			for _, c := range unknown[:n] {
				_ = p.Process(ctx, c.command(ctx, "eval", sc.source))
			}
		})
		if err != nil {
			return err
		}
		unknown = unknown[n:]
	}
	return nil
}
