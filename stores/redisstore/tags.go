package redisstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

const tagPrefix = names.TagSets

// chunk is the number of entries that are read or removed at a time. It bounds memory here, and the time for which a command
// blocks Redis.
const chunk = 1000

// setTaggedSource writes an entry and its tags. ARGV after those of writeTaggedSource: "1" to write only what is not there.
const setTaggedSource = `
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end` + writeTaggedSource

// addToTagSource is a function that adds an entry to a tag set. ttl is that of tags in milliseconds (0 none).
const addToTagSource = `
local function addToTag(set, entry, ttl)
	local left = redis.call('PTTL', set)
	redis.call('SADD', set, entry)
	if ttl == '0' then
		if left >= 0 then redis.call('PERSIST', set) end
	elseif left ~= -1 and left < tonumber(ttl) then
		redis.call('PEXPIRE', set, ttl)
	end
end
`

// writeTaggedSource ends a script that writes an entry and its tags. KEYS: entry, tag sets. ARGV: value, TTL and TTL of tags
// in milliseconds (0 none). Tags come first: if a tag's name is taken by something else, the script ends before it has
// written the entry.
const writeTaggedSource = addToTagSource + `
for i = 2, #KEYS do addToTag(KEYS[i], KEYS[1], ARGV[3]) end
if ARGV[2] == '0' then
	redis.call('SET', KEYS[1], ARGV[1])
else
	redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1`

// tagSource adds an entry to one tag. KEYS: tag set. ARGV: entry, TTL of tags in milliseconds (0 none).
const tagSource = addToTagSource + `
addToTag(KEYS[1], ARGV[1], ARGV[2])
return 1`

// membersSource reads some members of a tag. KEYS: tag set. ARGV: cursor, how many, longest member. Its first SREM does
// nothing, because a tag set cannot be an entry that carries the tag itself. Because of it, a read-only node refuses the
// script: such a node may lack members of its master. A script also reaches the master where SSCAN alone would be sent to a
// replica.
//
// An attacker may plant huge members. The script removes members that are too long to name an entry, and does not return them. If
// the others are together longer than four members may be, it reads fewer.
const membersSource = `
redis.call('SREM', KEYS[1], KEYS[1])
local count, most = tonumber(ARGV[2]), tonumber(ARGV[3])
while true do
	local page, members, bytes = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', count), {}, 0
	for _, member in ipairs(page[2]) do
		if #member > most then
			redis.call('SREM', KEYS[1], member)
		else
			members[#members + 1], bytes = member, bytes + #member
		end
	end
	if bytes <= 4 * most or count == 1 then return {page[1], members} end
	count = math.max(1, math.floor(count / 10))
end`

// maxTaggedKey bounds the name of an entry with tags, which the sets of its tags hold.
const maxTaggedKey = 1 << 20

// untagSource removes entries that are still in a tag, and then their memberships, so that an entry whose DEL is denied
// stays in the tag. KEYS: tag set, entries. Other types than strings, such as a list of a job queue, are not entries.
const untagSource = `
for i = 2, #KEYS do
	if redis.call('SISMEMBER', KEYS[1], KEYS[i]) == 1 then
		if redis.call('TYPE', KEYS[i]).ok == 'string' then redis.call('DEL', KEYS[i]) end
		redis.call('SREM', KEYS[1], KEYS[i])
	end
end
return 1`

// removeSource removes an entry. KEYS: entry.
const removeSource = `
if redis.call('TYPE', KEYS[1]).ok == 'string' then redis.call('DEL', KEYS[1]) end
return 1`

// kindSource calls TYPE on the master. KEYS: any.
const kindSource = `return redis.call('TYPE', KEYS[1]).ok`

// setTagged writes entry and tags on a single node.
func (s *Store) setTagged(ctx context.Context, key string, value any, o settings, absent bool) (bool, error) {
	keys := append([]string{key}, tagSetNames(o.tags)...)
	call, only := s.run, "0"
	if absent {
		call, only = s.runOnce, "1"
	}
	n, err := call(ctx, s.scripts.setTagged, keys, value, o.ttl.Milliseconds(), o.tagsTTL.Milliseconds(), only).Int64()
	return n == 1, err
}

// tagSetNames returns the names of the sets of tags.
func tagSetNames(tags []string) []string {
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tagPrefix + tag
	}
	return names
}

// moment bounds the steps that must be completed even if the context has ended.
const moment = 2 * time.Second

// tagApart adds an entry to its tags in a Cluster.
func (s *Store) tagApart(ctx context.Context, key string, o settings) error {
	return s.tagMembers(ctx, o.tags, []string{key}, o.tagsTTL)
}

// tagAgain is tagApart after the entry was written. If it is unknown whether the entry was written, unknown is the
// error. An Invalidate may have removed the first membership, and an entry must not lose its tags because a context
// ended. Therefore a failed step is repeated once, with a separate short timeout.
func (s *Store) tagAgain(ctx context.Context, key string, o settings, unknown error) error {
	if unknown == nil && s.tagApart(ctx, key, o) == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	return errors.Join(unknown, s.tagApart(ctx, key, o))
}

func (s *Store) tagMembers(ctx context.Context, tags, members []string, ttl time.Duration) error {
	calls := make([]call, 0, len(tags)*len(members))
	for _, tag := range tags {
		for _, member := range members {
			calls = append(calls, call{key: tagPrefix + tag, args: []any{member, ttl.Milliseconds()}})
		}
	}
	_, errs := s.runAll(ctx, s.scripts.tag, calls)
	return errors.Join(errs...)
}

// Invalidate removes the entries that have one of the given tags when the call begins, and perhaps some that are added
// during the call. It reads and removes a thousand at a time. If a tag fails, the others are still invalidated. The error
// joins those of all tags, and a repeated call continues.
//
// Keys that do not hold strings are left alone, because the store never writes them. Otherwise Invalidate removes the
// entries that a tag's set names. An attacker who can write to the set can name any key: see InvalidatePrefix.
func (s *Store) Invalidate(ctx context.Context, opts ...store.InvalidateOption) error {
	return s.InvalidatePrefix(ctx, "", opts...)
}

// InvalidatePrefix is Invalidate for an application that keeps its entries under a prefix. It removes only members whose
// names start with prefix. Other members only lose the tag, and no permission for them is needed.
func (s *Store) InvalidatePrefix(ctx context.Context, prefix string, opts ...store.InvalidateOption) error {
	tags, err := storeargs.Tags(opts)
	if err != nil {
		return failed(ctx, "invalidate", err)
	}
	var errs []error
	for _, tag := range tags {
		if err := s.invalidate(ctx, tag, prefix); err != nil {
			errs = append(errs, failed(ctx, "invalidate", err))
			if ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// invalidations bounds how often invalidate reads a tag that grows all the time.
const invalidations = 4

// invalidate reads a tag until one call returns all of it. A cursor is valid on one server only. If the slot of the tag moves, or
// a replica takes over, later calls miss members, which stay in the tag.
func (s *Store) invalidate(ctx context.Context, tag, prefix string) error {
	for range invalidations {
		calls, err := s.invalidateOnce(ctx, tag, prefix)
		if err != nil || calls == 1 {
			return err
		}
	}
	return nil
}

// invalidateOnce reads a tag once, and returns the number of calls.
func (s *Store) invalidateOnce(ctx context.Context, tag, prefix string) (calls int, err error) {
	remove := s.untag
	if s.masters != nil {
		remove = s.untagApart
	}
	return s.eachChunk(ctx, tag, func(members []string) error {
		var own, foreign []string
		for _, m := range members {
			if strings.HasPrefix(m, prefix) {
				own = append(own, m)
			} else {
				foreign = append(foreign, m)
			}
		}
		if len(foreign) > 0 {
			if err := s.forget(ctx, tag, foreign); err != nil {
				return err
			}
		}
		if len(own) == 0 {
			return nil
		}
		return remove(ctx, tag, own)
	})
}

// eachChunk calls do with the members of a tag, at most a thousand at a time. It returns the number of calls that read them.
func (s *Store) eachChunk(ctx context.Context, tag string, do func(members []string) error) (calls int, err error) {
	for cursor := uint64(0); ; {
		calls++
		members, next, err := s.members(ctx, tag, cursor)
		if err != nil {
			return calls, err
		}
		for part := range slices.Chunk(members, chunk) {
			if err := do(part); err != nil {
				return calls, err
			}
		}
		if next == 0 {
			return calls, nil
		}
		cursor = next
	}
}

// members reads about a thousand members of a tag, from the master.
func (s *Store) members(ctx context.Context, tag string, cursor uint64) ([]string, uint64, error) {
	reply, err := s.run(ctx, s.scripts.members, []string{tagPrefix + tag}, strconv.FormatUint(cursor, 10), chunk, maxTaggedKey).Slice()
	if err != nil {
		return nil, 0, err
	}
	unexpected := errors.New("the script that lists the keys of a tag returned an unexpected reply (does a proxy change replies?)")
	if len(reply) != 2 {
		return nil, 0, unexpected
	}
	at, isText := reply[0].(string)
	list, isList := reply[1].([]any)
	next, err := strconv.ParseUint(at, 10, 64)
	if !isText || !isList || err != nil {
		return nil, 0, unexpected
	}
	members := make([]string, len(list))
	for i, m := range list {
		if members[i], isText = m.(string); !isText {
			return nil, 0, unexpected
		}
	}
	return members, next, nil
}

// forget removes members from a tag and does not touch the entries that they name.
func (s *Store) forget(ctx context.Context, tag string, members []string) error {
	args := make([]any, len(members))
	for i, m := range members {
		args[i] = m
	}
	return s.client.SRem(ctx, tagPrefix+tag, args...).Err()
}

// untag removes members and their entries on a single node.
func (s *Store) untag(ctx context.Context, tag string, members []string) error {
	return s.run(ctx, s.scripts.untag, slices.Concat([]string{tagPrefix + tag}, members)).Err()
}

// untagApart removes members and their entries in a Cluster. The entries go first, so that they stay in the tag if the
// process dies. They are removed again at the end: another process may have written an entry whose membership was removed
// afterwards. A later writer adds the membership again (see set).
func (s *Store) untagApart(ctx context.Context, tag string, members []string) error {
	if _, err := s.remove(ctx, members); err != nil {
		return err
	}
	left := members
	err := s.forget(ctx, tag, members)
	if err == nil {
		left, err = s.remove(ctx, members)
	}
	if err == nil {
		return nil
	}
	// Entries must not stay without their tag, even if the context has ended. The TTL of the entries is unknown here, so that
	// a set which this creates does not expire.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	return errors.Join(err, s.tagMembers(ctx, []string{tag}, left, 0))
}

// remove removes entries on all nodes of a Cluster and returns the keys that it could not remove.
func (s *Store) remove(ctx context.Context, keys []string) (left []string, err error) {
	_, errs := s.runAll(ctx, s.scripts.remove, callsOn(keys))
	for i, e := range errs {
		if e != nil {
			left, err = append(left, keys[i]), e
		}
	}
	return left, err
}
