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

// The types that SCAN filters by: entries are strings, tags are sets.
const (
	entries = "string"
	tagSets = "set"
)

// Keys yields the names of the entries that start with a prefix, taken literally, and of all entries for the empty one. Tag
// sets and keys that do not hold strings are left out. It reads a thousand names at a time from one master after the other,
// and stops after the first error that it yields.
//
// An entry that exists during the whole scan is yielded at least once, sometimes more often (SCAN promises no more). An entry
// that is written, deleted or expires during the scan may be missing. If a server restarts or fails over, its cursors become
// invalid, and the scan ends with an error. While a Cluster moves slots, entries may be missed.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		const op = "keys"
		nodes, err := s.nodes(ctx)
		if err != nil {
			yield("", failed(ctx, op, err))
			return
		}
		for _, node := range nodes {
			stopped := false
			err := s.scan(ctx, node, prefix, entries, func(keys []string) error {
				for _, key := range keys {
					if !yield(key, nil) {
						stopped = true
						return errStopped
					}
				}
				return nil
			})
			if stopped {
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
	errStopped     = errors.New("redisstore: the caller stopped the enumeration")
	errChanged     = errors.New("the server restarted or failed over during the scan (repeat the call)")
	errReplica     = errors.New("a master became a replica during the scan (repeat the call)")
	errSentinel    = errors.New("the server is a Sentinel, which stores nothing (use redis+sentinel:// or redis.NewFailoverClient)")
	errClusterNode = errors.New("the server is a node of a Redis Cluster (use redis+cluster:// or redis.ClusterClient)")
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
	return nodes, err
}

// scan calls each with batches of the names of a type that start with a prefix, on one node.
func (s *Store) scan(ctx context.Context, node redis.Cmdable, prefix, kind string, each func(keys []string) error) error {
	before, err := s.inspect(ctx, node)
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
	after, err := s.inspect(ctx, node)
	if err != nil {
		return err
	}
	if after.run != before.run {
		return errChanged
	}
	return nil
}

// server holds the fields of INFO of a node. A field is empty if the server does not offer INFO or the field.
type server struct {
	run               string // a name of the process
	replica           bool
	maxmemory, evicts string
}

// inspect asks a node for INFO. It refuses a node of a Cluster whose other nodes the client does not know. Its answer
// would cover only a part of the entries.
func (s *Store) inspect(ctx context.Context, node redis.Cmdable) (server, error) {
	info, err := node.Info(ctx).Result()
	if err != nil && !rediserr.Unavailable(err) {
		return server{}, err
	}
	if rediscmd.Sentinel(info) {
		return server{}, errSentinel
	}
	if s.masters == nil && rediscmd.ClusterNode(ctx, node, info) {
		return server{}, errClusterNode
	}
	return server{
		run:       rediscmd.InfoField(info, "run_id"),
		replica:   rediscmd.InfoField(info, "role") == "slave",
		maxmemory: rediscmd.InfoField(info, "maxmemory"),
		evicts:    rediscmd.InfoField(info, "maxmemory_policy"),
	}, nil
}

// checkWritable returns the READONLY error if the node is a replica. Without it, a scan that finds nothing would not
// notice that. prefix is that of the scan.
func (s *Store) checkWritable(ctx context.Context, node redis.Cmdable, prefix string) error {
	is, err := s.inspect(ctx, node)
	if err == nil && s.masters != nil && is.replica {
		err = errReplica
	}
	if err != nil || s.masters != nil {
		return err
	}
	set := tagPrefix + prefix
	err = node.SRem(ctx, set, set).Err() // does nothing, as in membersSource
	if rediserr.NotOffered(err) || rediserr.Code(err) == "WRONGTYPE" {
		return nil
	}
	return err
}

// ClearPrefix deletes the entries whose names start with a prefix, taken literally, and the sets of the tags that start with
// it. It uses SCAN and DEL on every master, and UNLINK for sets of tags if the server offers it. Entries that are written during
// the call may stay; they keep their tags. Keys that are neither an entry nor a tag set are left alone. With the empty prefix it
// deletes every string in the database, those of other applications included.
//
// While a Cluster moves slots, entries may stay. Then repeat the call when no slot moves any more.
func (s *Store) ClearPrefix(ctx context.Context, prefix string) error {
	// Entries go first, so that those whose DEL is denied keep their tags. Then the tag sets go, on all masters, and then
	// the entries that were written since. An entry that is in Redis when the last scan begins is deleted, and one that is
	// written later has its tags written later.
	for _, part := range []struct{ prefix, kind string }{
		{prefix, entries},
		{tagPrefix + prefix, tagSets},
		{prefix, entries},
	} {
		err := s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
			if err := s.checkWritable(ctx, node, prefix); err != nil {
				return err
			}
			return s.scan(ctx, node, part.prefix, part.kind, func(keys []string) error {
				if part.kind == entries {
					return s.removeAll(ctx, keys, "del")
				}
				err := s.removeAll(ctx, keys, "unlink") // a set may be large
				if rediserr.Denied(err) {
					err = s.removeAll(ctx, keys, "del")
				}
				return err
			})
		})
		if err != nil {
			return failed(ctx, "clear prefix", err)
		}
	}
	return nil
}

// removeAll deletes keys with DEL or UNLINK.
func (s *Store) removeAll(ctx context.Context, keys []string, command string) error {
	if len(keys) == 0 {
		return nil
	}
	if s.masters == nil {
		args := make([]any, 1, 1+len(keys))
		args[0] = command
		for _, key := range keys {
			args = append(args, key)
		}
		return s.client.Do(ctx, args...).Err()
	}
	pipe := s.client.Pipeline() // slots may have moved since the keys were read
	for _, key := range keys {
		pipe.Do(ctx, command, key)
	}
	_, err := pipe.Exec(ctx) // of a Cluster
	return err
}

// Clear empties the selected database on every master (FLUSHDB ASYNC), including entries of other applications.
// gocache's Redis store empties every database, of one master. On a Redis that is shared, with job queues for
// instance, use a namespace and ClearPrefix, or a separate database.
func (s *Store) Clear(ctx context.Context) error {
	return failed(ctx, "clear", s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		if _, err := s.inspect(ctx, node); err != nil {
			return err
		}
		return node.FlushDBAsync(ctx).Err()
	}))
}
