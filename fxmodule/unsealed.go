package fxmodule

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/capability"
	"github.com/sealcache/sealcache/middleware"
)

// unsealedStore applies the namespace and TTL of a Config to a cache that is not sealed, as middleware.Store does to a
// sealed one. It uses only capabilities that the backing store declares, see middleware.CapableStore. It embeds nothing: a method that gocache adds later must not skip the namespace.
type unsealedStore struct {
	backing store.StoreInterface
	prefix  string
	ttl     time.Duration
}

var (
	_ store.StoreInterface      = (*unsealedStore)(nil)
	_ store.SetIfNotExistsStore = (*unsealedStore)(nil)
	_ io.Closer                 = (*unsealedStore)(nil)
)

func newUnsealedStore(backing store.StoreInterface, c Cache) *unsealedStore {
	s := &unsealedStore{backing: backing, ttl: c.TTL}
	if c.Namespace != "" {
		s.prefix = c.Namespace + ":"
	}
	return s
}

func (s *unsealedStore) key(key any) (any, error) {
	name, ok := key.(string)
	if !ok {
		return nil, fmt.Errorf("%w: the cache key has the type %T (use a string)", middleware.ErrUnsupportedType, key)
	}
	return s.prefix + name, nil
}

// options applies the TTL first, so that the caller's own overrides it, and prefixes tags last, when all are known.
func (s *unsealedStore) options(given []store.Option) []store.Option {
	opts := make([]store.Option, 0, len(given)+2)
	if s.ttl != 0 {
		opts = append(opts, store.WithExpiration(s.ttl))
	}
	opts = append(opts, given...)
	return append(opts, func(o *store.Options) { o.Tags = s.tags(o.Tags) })
}

func (s *unsealedStore) tags(tags []string) []string {
	out := make([]string, len(tags))
	for i, t := range tags {
		out[i] = s.prefix + t
	}
	return out
}

func (s *unsealedStore) Get(ctx context.Context, key any) (any, error) {
	k, err := s.key(key)
	if err != nil {
		return nil, err
	}
	return s.backing.Get(ctx, k)
}

func (s *unsealedStore) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	k, err := s.key(key)
	if err != nil {
		return nil, 0, err
	}
	return s.backing.GetWithTTL(ctx, k)
}

func (s *unsealedStore) Set(ctx context.Context, key any, value any, options ...store.Option) error {
	k, err := s.key(key)
	if err != nil {
		return err
	}
	return s.backing.Set(ctx, k, value, s.options(options)...)
}

func (s *unsealedStore) SetIfNotExists(ctx context.Context, key any, value any, options ...store.Option) (bool, error) {
	b, ok := capability.Of[store.SetIfNotExistsStore](s.backing, "SetIfNotExistsStore")
	if !ok {
		return false, fmt.Errorf("%w: the %s store has no operation that sets a key only if it is absent", middleware.ErrUnsupported, s.GetType())
	}
	k, err := s.key(key)
	if err != nil {
		return false, err
	}
	return b.SetIfNotExists(ctx, k, value, s.options(options)...)
}

func (s *unsealedStore) Delete(ctx context.Context, key any) error {
	k, err := s.key(key)
	if err != nil {
		return err
	}
	return s.backing.Delete(ctx, k)
}

// If the store can, Invalidate deletes only entries of the namespace. An attacker who can write to the store can add names
// of other applications' entries to a tag set.
func (s *unsealedStore) Invalidate(ctx context.Context, options ...store.InvalidateOption) error {
	options = append(options[:len(options):len(options)], func(o *store.InvalidateOptions) { o.Tags = s.tags(o.Tags) })
	if b, ok := capability.Of[middleware.PrefixInvalidator](s.backing, "PrefixInvalidator"); ok && s.prefix != "" {
		return b.InvalidatePrefix(ctx, s.prefix, options...)
	}
	return s.backing.Invalidate(ctx, options...)
}

// Clear deletes the namespace only. The backing store's own Clear would also empty the caches next to this one.
func (s *unsealedStore) Clear(ctx context.Context) error {
	if s.prefix == "" {
		return fmt.Errorf("%w: Clear would empty the whole store (give the cache a namespace)", middleware.ErrUnsupported)
	}
	e, ok := capability.Of[middleware.Enumerator](s.backing, "Enumerator")
	if !ok {
		return fmt.Errorf("%w: the %s store can only clear everything, not a single namespace", middleware.ErrUnsupported, s.GetType())
	}
	return e.ClearPrefix(ctx, s.prefix)
}

func (s *unsealedStore) GetType() string { return s.backing.GetType() }

func (s *unsealedStore) Close() error {
	if c, ok := s.backing.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
