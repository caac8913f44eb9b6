package main

import (
	"context"
	"errors"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
)

// thinStore is the smallest possible backing store. It holds one value and copies it on every set and get, as a client
// of a server does. It does not allocate, because a client allocates its replies for plaintext values as well. A value
// that was read is valid until the next read. One goroutine at a time uses it.
type thinStore struct{ stored, handed []byte }

var (
	_ store.StoreInterface  = (*thinStore)(nil)
	_ middleware.BytesStore = (*thinStore)(nil)
)

func (t *thinStore) GetBytes(context.Context, string) ([]byte, error) {
	t.handed = append(t.handed[:0], t.stored...)
	return t.handed, nil
}

func (t *thinStore) GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error) {
	b, err := t.GetBytes(ctx, key)
	return b, 0, err
}

func (t *thinStore) SetBytes(_ context.Context, _ string, value []byte, _ ...store.Option) error {
	t.stored = append(t.stored[:0], value...)
	return nil
}

// Capabilities declares the methods that the middleware uses.
func (t *thinStore) Capabilities() (owner any, names []string) { return t, []string{"BytesStore"} }

var errNotUsed = errors.New("the store of this benchmark supports only the methods of middleware.BytesStore")

func (t *thinStore) Get(context.Context, any) (any, error) { return nil, errNotUsed }

func (t *thinStore) GetWithTTL(context.Context, any) (any, time.Duration, error) {
	return nil, 0, errNotUsed
}
func (t *thinStore) Set(context.Context, any, any, ...store.Option) error { return errNotUsed }
func (t *thinStore) Delete(context.Context, any) error                    { return errNotUsed }
func (t *thinStore) Invalidate(context.Context, ...store.InvalidateOption) error {
	return errNotUsed
}
func (t *thinStore) Clear(context.Context) error { return errNotUsed }
func (t *thinStore) GetType() string             { return "thin" }

const pathKey = "user:4711:profile"

// storeSide returns an operation on a Store over a thinStore: "set", "get" or "set + get". stored is the number of bytes
// that the thinStore then holds.
func (b *bench) storeSide(
	ctx context.Context, name, operation string, a tink.AEADWithContext, value []byte, opts ...middleware.Option,
) (_ side, stored int) {
	backing := new(thinStore)
	s, err := middleware.New(backing, a, opts...)
	b.Check(err)
	// The caller pays for the conversion to any, with and without sealing.
	key, boxed := any(pathKey), any(value)
	b.Check(roundTrip(ctx, s, key, value))
	b.Check(checkSealed(backing.stored, value))
	set := func(ctx context.Context, _, _ int) error { return s.Set(ctx, key, boxed) }
	get := func(ctx context.Context, _, _ int) error {
		got, err := s.Get(ctx, key)
		if err == nil && lengthOf(got) != len(value) {
			err = errAnotherValue
		}
		return err
	}
	do := map[string]func(ctx context.Context, _, _ int) error{
		"set": set, "get": get,
		"set + get": func(ctx context.Context, worker, i int) error {
			if err := set(ctx, worker, i); err != nil {
				return err
			}
			return get(ctx, worker, i)
		},
	}[operation]
	return side{name: name, do: do}, len(backing.stored)
}
