package fxmodule

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// clearStore gives a cache in clear the namespace and TTL of its Config, as middleware.Store does for a sealed one. It
// embeds nothing: a method that gocache adds one day must not miss the namespace.
type clearStore struct {
	backing store.StoreInterface
	shared  *atomic.Bool // with a cache, or with queues of jobs, that Clear must not empty
	prefix  string
	ttl     time.Duration
}

var (
	_ store.StoreInterface      = (*clearStore)(nil)
	_ store.SetIfNotExistsStore = (*clearStore)(nil)
	_ io.Closer                 = (*clearStore)(nil)
)

// newClearStore returns backing itself where there is nothing to add.
func newClearStore(backing store.StoreInterface, c Cache, shared *atomic.Bool) store.StoreInterface {
	_, guarded := backing.(sharedRedis)
	if c.Namespace == "" && c.TTL == 0 && (guarded || !shared.Load()) {
		return backing
	}
	s := &clearStore{backing: backing, ttl: c.TTL, shared: shared}
	if c.Namespace != "" {
		s.prefix = c.Namespace + ":"
	}
	return s
}

// errSharedClear keeps a cache from emptying its neighbours.
var errSharedClear = fmt.Errorf("%w: this cache has no namespace and shares its store with another, or with the queues of jobs, which Clear would empty too: give it a namespace", middleware.ErrUnsupported)

// sharedRedis is a redisstore under a cache without a namespace that shares it with another or with queues of jobs, or
// may turn out to: the Redis of the jobs is known only when something takes what needs it. All but Clear is the store's own.
type sharedRedis struct {
	*redisstore.Store
	shared *atomic.Bool
}

func (s sharedRedis) Clear(ctx context.Context) error {
	if s.shared.Load() {
		return errSharedClear
	}
	return s.Store.Clear(ctx)
}

func (s *clearStore) key(key any) (any, error) {
	if s.prefix == "" {
		return key, nil
	}
	name, ok := key.(string)
	if !ok {
		return nil, fmt.Errorf("%w: a key of type %T: keys are strings (cache.New makes them so)", middleware.ErrUnsupportedType, key)
	}
	return s.prefix + name, nil
}

// options puts the TTL first, so that the caller's own comes later, and the namespace of tags last, when all are known.
func (s *clearStore) options(given []store.Option) []store.Option {
	opts := make([]store.Option, 0, len(given)+2)
	if s.ttl != 0 {
		opts = append(opts, store.WithExpiration(s.ttl))
	}
	opts = append(opts, given...)
	if s.prefix != "" {
		opts = append(opts, func(o *store.Options) { o.Tags = s.tags(o.Tags) })
	}
	return opts
}

func (s *clearStore) tags(tags []string) []string {
	if len(tags) == 0 {
		return tags
	}
	out := make([]string, len(tags))
	for i, t := range tags {
		out[i] = s.prefix + t
	}
	return out
}

func (s *clearStore) Get(ctx context.Context, key any) (any, error) {
	k, err := s.key(key)
	if err != nil {
		return nil, err
	}
	return s.backing.Get(ctx, k)
}

func (s *clearStore) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	k, err := s.key(key)
	if err != nil {
		return nil, 0, err
	}
	return s.backing.GetWithTTL(ctx, k)
}

func (s *clearStore) Set(ctx context.Context, key any, value any, options ...store.Option) error {
	k, err := s.key(key)
	if err != nil {
		return err
	}
	return s.backing.Set(ctx, k, value, s.options(options)...)
}

func (s *clearStore) SetIfNotExists(ctx context.Context, key any, value any, options ...store.Option) (bool, error) {
	b, ok := s.backing.(store.SetIfNotExistsStore)
	if !ok {
		return false, fmt.Errorf("%w: the %s store cannot set a key only if it is absent", middleware.ErrUnsupported, s.GetType())
	}
	k, err := s.key(key)
	if err != nil {
		return false, err
	}
	return b.SetIfNotExists(ctx, k, value, s.options(options)...)
}

func (s *clearStore) Delete(ctx context.Context, key any) error {
	k, err := s.key(key)
	if err != nil {
		return err
	}
	return s.backing.Delete(ctx, k)
}

// prefixInvalidator is a backing store that can leave alone what a tag's set names outside a prefix: who can write to the
// store can put the names of other applications' entries there.
type prefixInvalidator interface {
	InvalidatePrefix(ctx context.Context, prefix string, options ...store.InvalidateOption) error
}

func (s *clearStore) Invalidate(ctx context.Context, options ...store.InvalidateOption) error {
	if s.prefix == "" {
		return s.backing.Invalidate(ctx, options...)
	}
	options = append(options[:len(options):len(options)], func(o *store.InvalidateOptions) { o.Tags = s.tags(o.Tags) })
	if b, ok := s.backing.(prefixInvalidator); ok {
		return b.InvalidatePrefix(ctx, s.prefix, options...)
	}
	return s.backing.Invalidate(ctx, options...)
}

// Clear is limited to the namespace, or refused: the backing store's own would also take the sealed caches beside it.
func (s *clearStore) Clear(ctx context.Context) error {
	if s.prefix == "" && s.shared.Load() {
		return errSharedClear
	}
	if s.prefix == "" {
		return s.backing.Clear(ctx)
	}
	e, ok := s.backing.(middleware.Enumerator)
	if !ok {
		return fmt.Errorf("%w: the %s store cannot clear one namespace and leave the rest", middleware.ErrUnsupported, s.GetType())
	}
	return e.ClearPrefix(ctx, s.prefix)
}

func (s *clearStore) GetType() string { return s.backing.GetType() }

func (s *clearStore) Close() error {
	if c, ok := s.backing.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
