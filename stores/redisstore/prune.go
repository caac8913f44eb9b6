package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// pruneSource removes members of a tag whose entries are gone. KEYS: tag set, entries.
const pruneSource = `
for i = 2, #KEYS do
	if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('SREM', KEYS[1], KEYS[i]) end
end
return 1`

// existsSource calls EXISTS on the master (see membersSource). KEYS: entry.
const existsSource = `return redis.call('EXISTS', KEYS[1])`

// PruneTags removes the names of expired and deleted entries from the sets of the tags that start with a prefix. Redis
// removes empty sets. An entry that is written during the call keeps its tags.
//
// It is for applications that tag entries without expiration and delete them one by one. Their tag sets would grow until the
// tags are invalidated. Once a day is enough. PruneTags reads all tags of the prefix, a thousand members at a time, and stops
// at the first error. It may be repeated.
func (s *Store) PruneTags(ctx context.Context, prefix string) error {
	prune := s.prune
	if s.masters != nil {
		prune = s.pruneApart
	}
	return failed(ctx, "prune tags", s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		if err := s.checkWritable(ctx, node, prefix); err != nil {
			return err
		}
		return s.scan(ctx, node, tagPrefix+prefix, tagSets, func(sets []string) error {
			for _, set := range sets {
				tag := strings.TrimPrefix(set, tagPrefix)
				_, err := s.eachChunk(ctx, tag, func(members []string) error { return prune(ctx, tag, members) })
				if err != nil {
					return err
				}
			}
			return nil
		})
	}))
}

func (s *Store) prune(ctx context.Context, tag string, members []string) error {
	return s.run(ctx, s.scripts.prune, slices.Concat([]string{tagPrefix + tag}, members)).Err()
}

// pruneApart prunes a tag in a Cluster. Another process may write an entry between the check and the removal of its
// membership. Therefore the check is repeated. A later writer adds the membership again (see set).
func (s *Store) pruneApart(ctx context.Context, tag string, members []string) error {
	gone, err := s.missingKeys(ctx, members)
	if err != nil || len(gone) == 0 {
		return err
	}
	err = s.forget(ctx, tag, gone)
	var still []string
	if err == nil {
		still, err = s.missingKeys(ctx, gone)
	}
	if err == nil && len(still) == len(gone) {
		return nil
	}
	back := gone // all of them if it is unknown which exist: an extra name in a set is harmless
	if err == nil {
		back = slices.DeleteFunc(gone, func(m string) bool { return slices.Contains(still, m) })
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	return errors.Join(err, s.tagMembers(ctx, []string{tag}, back, 0))
}

// missingKeys returns the keys that no master has.
func (s *Store) missingKeys(ctx context.Context, keys []string) ([]string, error) {
	answers, errs := s.runAll(ctx, s.scripts.exists, callsOn(keys))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var gone []string
	for i, key := range keys {
		if answers[i] == 0 {
			gone = append(gone, key)
		}
	}
	return gone, nil
}
