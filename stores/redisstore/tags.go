package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
)

// tagPrefix is that of gocache's Redis store, so that the two share tags.
const tagPrefix = "gocache_tag_"

// chunk is how many entries are read and removed at a time: it bounds memory here and the time for which a script or a
// command holds Redis up.
const chunk = 1000

// setTaggedSource writes an entry and its tags. KEYS: entry, tag sets. ARGV: value, TTL and TTL of tags in milliseconds,
// "1" to write only what is not there. Tags come first: if a tag's name is taken by something else, the script ends
// before it has written the entry.
const setTaggedSource = `
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
for i = 2, #KEYS do
	local left = redis.call('PTTL', KEYS[i])
	redis.call('SADD', KEYS[i], KEYS[1])
	if left ~= -1 and left < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
end
if ARGV[2] == '0' then
	redis.call('SET', KEYS[1], ARGV[1])
else
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1`

// tagSource adds an entry to one tag. KEYS: tag set. ARGV: entry, TTL of tags in milliseconds.
const tagSource = `
local left = redis.call('PTTL', KEYS[1])
redis.call('SADD', KEYS[1], ARGV[1])
if left ~= -1 and left < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`

// untagSource removes entries that are still in a tag. KEYS: tag set, entries.
const untagSource = `
for i = 2, #KEYS do
	if redis.call('SREM', KEYS[1], KEYS[i]) == 1 then redis.call('UNLINK', KEYS[i]) end
end
return 1`

// setTagged writes entry and tags on a single node.
func (s *Store) setTagged(ctx context.Context, key string, value any, o settings, absent bool) (bool, error) {
	keys := make([]string, 0, 1+len(o.tags))
	keys = append(keys, key)
	for _, tag := range o.tags {
		keys = append(keys, tagPrefix+tag)
	}
	call, only := s.run, "0"
	if absent {
		call, only = s.runOnce, "1"
	}
	n, err := call(ctx, s.scripts.setTagged, keys, value, o.ttl.Milliseconds(), o.tagsTTL.Milliseconds(), only).Int64()
	return n == 1, err
}

// tagApart adds an entry to its tags in a Cluster.
func (s *Store) tagApart(ctx context.Context, key string, o settings) error {
	return s.tagMembers(ctx, o.tags, []string{key}, o.tagsTTL)
}

func (s *Store) tagMembers(ctx context.Context, tags, members []string, ttl time.Duration) error {
	sc := s.scripts.tag
	type call struct {
		set, member string
		cmd         *redis.Cmd
	}
	calls := make([]call, 0, len(tags)*len(members))
	pipe := s.client.Pipeline()
	for _, tag := range tags {
		for _, member := range members {
			c := call{set: tagPrefix + tag, member: member}
			c.cmd = sc.byDigest(ctx, []string{c.set}, c.member, ttl.Milliseconds())
			_ = pipe.Process(ctx, c.cmd)
			calls = append(calls, c)
		}
	}
	execute(ctx, pipe)
	var errs []error
	for _, c := range calls {
		err := c.cmd.Err()
		if unknownScript(err) {
			err = s.run(ctx, sc, []string{c.set}, c.member, ttl.Milliseconds()).Err()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Invalidate removes the entries of the given tags: those that are in a tag when it begins, and perhaps some that are
// added meanwhile. It reads and removes a thousand at a time. When a tag fails the others are still invalidated; the
// error joins those of all tags, and doing it again goes on where it failed.
func (s *Store) Invalidate(ctx context.Context, opts ...store.InvalidateOption) error {
	tags, err := tagsOf(opts)
	if err != nil {
		return failed(ctx, "invalidate", err)
	}
	var errs []error
	for _, tag := range tags {
		if err := s.invalidate(ctx, tag); err != nil {
			errs = append(errs, failed(ctx, "invalidate", err))
			if ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Store) invalidate(ctx context.Context, tag string) error {
	remove := s.untag
	if s.masters != nil {
		remove = s.untagApart
	}
	for cursor := uint64(0); ; {
		members, next, err := s.client.SScan(ctx, tagPrefix+tag, cursor, "", chunk).Result()
		if err != nil {
			return err
		}
		for len(members) > 0 {
			n := min(chunk, len(members))
			if err := remove(ctx, tag, members[:n]); err != nil {
				return err
			}
			members = members[n:]
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// untag removes members and their entries on a single node.
func (s *Store) untag(ctx context.Context, tag string, members []string) error {
	keys := append(append(make([]string, 0, 1+len(members)), tagPrefix+tag), members...)
	return s.run(ctx, s.scripts.untag, keys).Err()
}

// untagApart removes members and their entries in a Cluster. The entries go first, so that whoever dies here leaves them
// in the tag; and again at the end, since a writer may have written one between the two, whose membership is gone. A
// writer that comes later adds it anew (see set).
func (s *Store) untagApart(ctx context.Context, tag string, members []string) error {
	if _, err := s.unlink(ctx, members); err != nil {
		return err
	}
	args := make([]any, len(members))
	for i, m := range members {
		args[i] = m
	}
	left := members
	err := s.client.SRem(ctx, tagPrefix+tag, args...).Err()
	if err == nil {
		left, err = s.unlink(ctx, members)
	}
	if err == nil {
		return nil
	}
	// Entries must not stay without their tag. The context may be what ended; this is worth a moment more.
	const moment = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	return errors.Join(err, s.tagMembers(ctx, []string{tag}, left, defaultTagsTTL))
}

// unlink removes entries wherever they lie in a Cluster and returns those that it could not remove.
func (s *Store) unlink(ctx context.Context, keys []string) (left []string, err error) {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		cmds[i] = pipe.Unlink(ctx, key)
	}
	execute(ctx, pipe)
	for i, cmd := range cmds {
		if cmd.Err() != nil {
			left, err = append(left, keys[i]), cmd.Err()
		}
	}
	return left, err
}
