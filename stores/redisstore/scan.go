package redisstore

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// Types of what SCAN is asked for: entries are strings, tags are sets.
const (
	entries = "string"
	tagSets = "set"
)

// Keys yields the names of the entries that start with a prefix, taken literally, and of all entries for the empty one.
// Tag sets and what else lies in Redis that is not a string are left out. It reads a thousand names at a time from one
// master after the other, and stops after the first error that it yields.
//
// An entry that is there from beginning to end is yielded at least once, sometimes more often (SCAN promises no more);
// one that is written, deleted or expires meanwhile may be missing. A server that restarts or fails over during the scan
// ends it with an error, since its cursors then mean nothing. While a Cluster moves slots, entries may be missed.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		const op = "keys"
		nodes, err := s.nodes(ctx)
		if err != nil {
			yield("", failed(ctx, op, err))
			return
		}
		for _, node := range nodes {
			enough := false
			err := scan(ctx, node, prefix, entries, func(keys []string) error {
				for _, key := range keys {
					if !yield(key, nil) {
						enough = true
						return errEnough
					}
				}
				return nil
			})
			if enough {
				return
			}
			if err != nil {
				yield("", failed(ctx, op, err))
				return
			}
		}
	}
}

var (
	errEnough  = errors.New("redisstore: the caller has enough")
	errChanged = errors.New("the server restarted or failed over during the scan, which has to start again")
)

// nodes are the masters, or the client of a single node.
func (s *Store) nodes(ctx context.Context) ([]redis.Cmdable, error) {
	var mu sync.Mutex
	var nodes []redis.Cmdable
	err := s.eachMaster(ctx, func(_ context.Context, node redis.Cmdable) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	if err == nil && len(nodes) == 0 {
		err = errors.New("the cluster has no master")
	}
	return nodes, err
}

// scan calls each with batches of the names of a type that start with a prefix, on one node.
func scan(ctx context.Context, node redis.Cmdable, prefix, kind string, each func(keys []string) error) error {
	before, err := runID(ctx, node)
	if err != nil {
		return err
	}
	for cursor := uint64(0); ; {
		keys, next, err := node.ScanType(ctx, cursor, rediscmd.Pattern(prefix), chunk, kind).Result()
		if err != nil {
			return err
		}
		if err := each(keys); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	after, err := runID(ctx, node)
	if err != nil {
		return err
	}
	if after != before {
		return errChanged
	}
	return nil
}

// runID names the run of a server, and is empty where the user may not ask for it.
func runID(ctx context.Context, node redis.Cmdable) (string, error) {
	info, err := node.Info(ctx, "server").Result()
	if rediserr.IsReply(err) && !rediserr.Refused(err) {
		return "", nil // INFO, or its section, is not offered
	}
	if err != nil {
		return "", err
	}
	return rediscmd.InfoField(info, "run_id"), nil
}

// ClearPrefix deletes the entries whose names start with a prefix, taken literally, and the sets of the tags that start
// with it, on every master, by SCAN and UNLINK. Entries written meanwhile may stay; those that stay keep their tags. What
// is neither an entry nor a tag set is left alone. With the empty prefix it deletes every string in the database, those
// of other users of it included.
func (s *Store) ClearPrefix(ctx context.Context, prefix string) error {
	// The tag sets go first, on all masters, then the entries: an entry that is in Redis when the second scan begins is
	// deleted, and one that is written later has its tags written later. The other way round an entry could outlive
	// its tags.
	for _, part := range []struct{ prefix, kind string }{
		{tagPrefix + prefix, tagSets},
		{prefix, entries},
	} {
		err := s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
			return scan(ctx, node, part.prefix, part.kind, func(keys []string) error {
				return s.unlinkAll(ctx, keys)
			})
		})
		if err != nil {
			return failed(ctx, "clear prefix", err)
		}
	}
	return nil
}

func (s *Store) unlinkAll(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	if s.masters == nil {
		return s.client.Unlink(ctx, keys...).Err()
	}
	pipe := s.client.Pipeline() // the nodes that the keys were read from may have handed some on
	for _, key := range keys {
		pipe.Unlink(ctx, key)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// Clear empties the selected database on every master (FLUSHDB ASYNC): everything in it, whoever wrote it. gocache's
// Redis store empties every database, of one master. On a Redis that is shared, with job queues for instance, use a
// namespace and ClearPrefix, or a database of its own.
func (s *Store) Clear(ctx context.Context) error {
	return failed(ctx, "clear", s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		return node.FlushDBAsync(ctx).Err()
	}))
}
