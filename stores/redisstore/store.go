package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

// Store is a gocache store over Redis. It is safe for concurrent use. Open and New return one.
type Store struct {
	client   redis.UniversalClient
	masters  masters // nil for a single node
	defaults store.Options
	scripts  scripts
	copies   bool       // replies are copied, because the client may keep them
	combiner *combiner  // nil if calls are not combined
	near     *NearCache // nil without one

	transactions atomic.Int32 // whether the server runs them: transactionsUnknown, ...

	closeOnce sync.Once
	closes    io.Closer // nil if the client is not ours
	closeErr  error
}

// masters is implemented by clients of several nodes: *redis.ClusterClient and types that embed it.
type masters interface {
	ForEachMaster(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
}

// oneNode is implemented by clients of one node: *redis.Client and types that embed it.
type oneNode interface{ Options() *redis.Options }

var (
	_ store.SetIfNotExistsStore = (*Store)(nil)
	_ io.Closer                 = (*Store)(nil)
)

// redisType is also the type of gocache's Redis store, so that metrics keep their labels.
const redisType = "redis"

// New returns a store over a client that the caller owns: Close leaves it open. The client is a *redis.Client, also one
// from redis.NewFailoverClient, a *redis.ClusterClient, or a type that embeds either. A type that embeds the interface
// redis.UniversalClient is refused, because it hides whether there is one node or a Cluster. If a Cluster were treated as
// one node, Clear would empty a part of it. *redis.Ring is refused, because it loses or duplicates entries when shards are
// added or removed, which breaks swaps and tags. *redis.AutoPipeliner is refused because it ignores the context of a call.
//
// When many goroutines call the Store, it sends several calls in one pipeline: together, in one round trip. It does so
// only if the client is exactly a *redis.Client or *redis.ClusterClient. A type that embeds one may override Get, which a
// pipeline would bypass. If you set the client's MaxActiveConns, set it to at least PoolSize. Otherwise go-redis refuses
// calls that find no free connection, and does not let them wait. docs/stores.md has the details.
//
// The client should be made with ContextTimeoutEnabled. Otherwise go-redis ignores the deadline of a context while it waits
// for the server, and New logs a warning.
//
// A client for a single node can be connected to one node of a Cluster by mistake. It would see only a part of the
// entries. So Clear, ClearPrefix, Keys and PruneTags then return an error.
//
// The options ReadOnly, RouteByLatency and RouteRandomly of a Cluster client let it read from replicas. A read of one
// value can then return a deleted entry. All other operations use the masters.
//
// # Hooks of the client
//
// A hook (redis.Hook) must not keep a reply beyond the call: its bytes belong to the caller of Get. A hook must not call
// the Store: it could deadlock.
//
// Calls that the Store combines reach a hook as one pipeline. Config.DisableCombining avoids the following effects:
//
//   - The context of the pipeline has the values of only one of the calls, such as its trace span.
//   - A write in the pipeline does not have its type of go-redis, such as *redis.StatusCmd. So recognize it by its name. In
//     a Cluster, this applies to reads too.
//   - In a Cluster, a node can redirect one command to another node. The hook can then get the error context.Canceled for
//     the pipeline, although other commands have succeeded. The Store repeats the redirected command.
//
// # Options
//
// opts are the defaults for Set and SetIfNotExists: store.WithExpiration, store.WithTags, store.WithTagsTTL. The options
// of a call are applied after them. Cost and the options meant for other stores are ignored.
func New(client redis.UniversalClient, opts ...store.Option) (*Store, error) {
	return NewWithConfig(client, Config{}, opts...)
}

// NewWithConfig is New with settings that gocache's options do not cover.
func NewWithConfig(client redis.UniversalClient, cfg Config, opts ...store.Option) (*Store, error) {
	if nilcheck.IsNil(client) {
		return nil, errors.New("redisstore: new: the Redis client is nil")
	}
	switch c := client.(type) {
	case interface {
		ForEachShard(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
	}:
		if _, cluster := client.(masters); !cluster {
			return nil, fmt.Errorf("redisstore: new: %T is not supported (use redis.NewClient or redis.NewClusterClient)", c)
		}
	case *redis.AutoPipeliner:
		return nil, errors.New("redisstore: new: an AutoPipeliner is not supported (pass the client that it was made from)")
	}
	s := &Store{client: client, scripts: newScripts()}
	s.masters, _ = client.(masters)
	if one, ok := client.(oneNode); ok {
		s.copies, s.near = sharesReplies(one.Options()), nearCacheOf(one.Options())
	} else if s.masters == nil {
		return nil, fmt.Errorf("redisstore: new: client type %T is not supported (pass a *redis.Client or *redis.ClusterClient)", client)
	}
	if err := storeargs.Apply(&s.defaults, opts); err != nil {
		return nil, fmt.Errorf("redisstore: new: default options: %w", err)
	}
	if _, err := s.settings(nil); err != nil {
		return nil, fmt.Errorf("redisstore: new: default options: %w", err)
	}
	if s.near != nil {
		if err := s.near.use(client, client.(oneNode).Options(), cfg.logger()); err != nil { //nolint:forcetypeassert // s.near is of these options
			return nil, fmt.Errorf("redisstore: new: %w", err)
		}
	}
	if !heedsDeadlines(client) {
		cfg.logger().Warn("redisstore: the Redis client ignores the deadlines of contexts (set ContextTimeoutEnabled)")
	}
	if !cfg.DisableCombining {
		s.combiner = newCombiner(client, cfg.logger())
	}
	return s, nil
}

// sharesReplies reports whether other code may hold the bytes of a reply. The caches of go-redis return fresh bytes for
// each read. Another redis.Cache may share them.
func sharesReplies(o *redis.Options) bool {
	if o == nil {
		return false
	}
	switch o.ClientSideCache.(type) {
	case nil, *redis.LocalCache, *NearCache:
		return false
	default:
		return true
	}
}

// String names the store's type; it shows no address and no credential.
func (s *Store) String() string { return "redisstore.Store" }

// GoString returns String.
func (s *Store) GoString() string { return s.String() }

// LogValue returns String.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Defaults returns the options that Set starts from.
func (s *Store) Defaults() store.Options {
	o := s.defaults
	o.Tags = slices.Clone(o.Tags)
	return o
}

// GetType is "redis".
func (s *Store) GetType() string { return redisType }

// Close closes the client of a store that Open made, and does nothing to a client that was given to New. A second Close
// does nothing and returns what the first returned.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		if s.closes != nil {
			s.closeErr = failed(context.Background(), "close", s.closes.Close())
		}
	})
	return s.closeErr
}

// Ping returns nil if the server answers, in a Cluster every master. It refuses a Sentinel, which also answers. A server that
// does not answer INFO is accepted.
func (s *Store) Ping(ctx context.Context) error {
	return failed(ctx, "ping", s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		if err := node.Ping(ctx).Err(); err != nil {
			return err
		}
		if info, err := node.Info(ctx, "server").Result(); err == nil && rediscmd.Sentinel(info) {
			return errSentinel
		}
		return nil
	}))
}

// eachMaster calls fn for every master at the same time, and for a single node with its client. It returns an error if the client
// finds no master.
func (s *Store) eachMaster(ctx context.Context, fn func(ctx context.Context, node redis.Cmdable) error) error {
	if s.masters == nil {
		return fn(ctx, s.client)
	}
	var found atomic.Bool
	err := s.masters.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		found.Store(true)
		return fn(ctx, node)
	})
	if err == nil && !found.Load() { // a node that was removed from the Cluster lists no slots to the client
		err = errors.New("the client found no master of the Redis Cluster (check the addresses of the nodes)")
	}
	return err
}

// Set writes a value. The value is a string, []byte, bool, integer, float, time.Time or time.Duration, or a pointer to one
// of these. It may also be an encoding.BinaryMarshaler, or nil for the empty value. Redis keeps text, so 42 comes back as
// the bytes "42". Set does not use the value after it returns, even after an error. An expiration of 0 is none; less than
// a millisecond is a millisecond.
//
// On a single node, an entry and its tags are written in one step. In a Cluster, an entry and the sets of its tags can be on
// different nodes. An entry then lacks a tag only if a process dies inside Set while another process invalidates this tag,
// or if a failover loses the last writes to the set of the tag.
//
// With tags the entry is added to their sets. This may extend the lifetime of a set to 720 h, or to the lifetime of
// the entry if that is longer. It never shortens it. For an entry without expiration the set never expires, because
// the entry would otherwise outlive its tags. With TagsTTL, the set lives for that time, or as long as the entry if
// that is longer. An entry without expiration then loses its tag when TagsTTL has passed since the last entry was
// tagged. Sets that never expire keep the names of deleted entries until their tag is invalidated: see PruneTags. A key with
// tags has at most 1 MiB.
func (s *Store) Set(ctx context.Context, key any, value any, opts ...store.Option) error {
	const op = "set"
	name, arg, err := arguments(key, value)
	if err != nil {
		return failed(ctx, op, err)
	}
	return s.set(ctx, op, name, arg, true, opts)
}

// SetBytes is Set without interfaces and without a copy. It does not use value after it has returned nil. After an error,
// value may still be read: the caller must not change it any more.
func (s *Store) SetBytes(ctx context.Context, key string, value []byte, opts ...store.Option) error {
	return s.set(ctx, "set", key, value, false, opts)
}

// SetBytesWithTTL is SetBytes for an entry that lives for ttl, 0 for no expiry. It adds no tags. Former tags of the entry stay, as
// with Set. The default options of the store do not count.
func (s *Store) SetBytesWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	const op = "set"
	ttl, err := wholeMilliseconds(ttl)
	if err != nil {
		return failed(ctx, op, err)
	}
	if err := s.noTagSet(ctx, key); err != nil {
		return failed(ctx, op, err)
	}
	return failed(ctx, op, s.setPlain(ctx, key, value, false, ttl))
}

// set writes a value. If callerOwned, the caller may change it after an error.
func (s *Store) set(ctx context.Context, op, key string, value any, callerOwned bool, opts []store.Option) error {
	o, err := s.settings(opts, key)
	if err != nil {
		return failed(ctx, op, err)
	}
	if err := s.noTagSet(ctx, key); err != nil {
		return failed(ctx, op, err)
	}
	switch {
	case len(o.tags) == 0:
		return failed(ctx, op, s.setPlain(ctx, key, value, callerOwned, o.ttl))
	case s.masters == nil:
		_, err := s.setTagged(ctx, key, value, o, false)
		return failed(ctx, op, err)
	}
	if err := s.tagApart(ctx, key, o); err != nil {
		return failed(ctx, op, err)
	}
	err = s.client.Set(ctx, key, value, o.ttl).Err()
	var refusal redis.Error
	if errors.As(err, &refusal) {
		return failed(ctx, op, err) // the server replied that it did not write it
	}
	return failed(ctx, op, s.tagAgain(ctx, key, o, err))
}

// noTagSet returns an error for a key that is the name of a tag's set. If the set were overwritten or deleted, an
// invalidation would miss the entries of that tag. Other keys of that form are names like any other, as in gocache's
// Redis store.
func (s *Store) noTagSet(ctx context.Context, key string) error {
	if !strings.HasPrefix(key, tagPrefix) {
		return nil
	}
	kind, err := s.run(ctx, s.scripts.kind, []string{key}).Text()
	if err == nil && kind == tagSets {
		err = errors.New("the key is reserved for a tag's list of entries (use keys that do not start with " + tagPrefix + ")")
	}
	return err
}

// SetIfNotExists writes a value as Set does, tags included, if there is no entry of that name, and reports whether it
// did. It is sent once: after an error that is not a reply of the server, the value may have been written.
//
// In a Cluster, it writes the tags after the entry. If the process dies in between, the entry lacks its tags.
func (s *Store) SetIfNotExists(ctx context.Context, key any, value any, opts ...store.Option) (bool, error) {
	const op = "set if not exists"
	name, arg, err := arguments(key, value)
	if err != nil {
		return false, failed(ctx, op, err)
	}
	o, err := s.settings(opts, name)
	if err != nil {
		return false, failed(ctx, op, err)
	}
	if len(o.tags) > 0 && s.masters == nil {
		written, err := s.setTagged(ctx, name, arg, o, true)
		return written, failed(ctx, op, err)
	}
	args := []any{"set", name, arg, "nx"}
	if o.ttl > 0 {
		args = append(args, "px", o.ttl.Milliseconds())
	}
	// The tags follow only after the write: an entry of another writer must not get tags that it was not set with.
	err = s.sendOnce(ctx, func() *redis.Cmd { return redis.NewCmd(ctx, args...) }).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, failed(ctx, op, err)
	}
	if len(o.tags) > 0 {
		return true, failed(ctx, op, s.tagAgain(ctx, name, o, nil))
	}
	return true, nil
}

// Delete removes an entry. Deleting an absent entry is not an error. Its memberships in tags stay, as in gocache's stores.
func (s *Store) Delete(ctx context.Context, key any) error {
	name, err := storeargs.Key(key)
	if err != nil {
		return failed(ctx, "delete", err)
	}
	if err := s.noTagSet(ctx, name); err != nil {
		return failed(ctx, "delete", err)
	}
	return failed(ctx, "delete", s.del(ctx, name))
}

// Capabilities names what the store can do beyond gocache's interface, for package middleware.
func (s *Store) Capabilities() (owner any, names []string) {
	return s, []string{
		"Adviser", "AtomicStore", "BatchStore", "BoundedReader", "BytesStore", "Counter", "Defaulter", "Enumerator", "Pinger", "PrefixInvalidator",
		"SetIfNotExistsStore", "Swapper", "TagExtender", "TagKeeper", "TTLSetter",
	}
}
