package storetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

// Keeper is a backing store for tests of decorators. It uses a caller's buffer as far as the contract of [BytesStore] lets
// a store do so. A SetBytes or SetBytesWithTTL that fails keeps the buffer, like a store that is still sending a batch. Kept
// returns an error if a buffer was changed after it was kept. All methods are safe for concurrent use.
type Keeper struct {
	store.StoreInterface
	inner BytesStore

	mu   sync.Mutex
	fail bool
	kept []keptBuffer
}

type keptBuffer struct{ buffer, was []byte }

// ErrKept is the error of a SetBytes that keeps its buffer.
var ErrKept = errors.New("storetest: SetBytes failed, because the test called Keeper.Fail")

// NewKeeper returns a Keeper over a store that is also a BytesStore.
func NewKeeper(inner store.StoreInterface) (*Keeper, error) {
	if nilcheck.IsNil(inner) {
		return nil, errors.New("storetest: NewKeeper: the inner store is nil")
	}
	b, ok := inner.(BytesStore)
	if !ok {
		return nil, errors.New("storetest: NewKeeper: the inner store does not implement middleware.BytesStore")
	}
	return &Keeper{StoreInterface: inner, inner: b}, nil
}

// Capabilities names BytesStore and TTLSetter.
func (k *Keeper) Capabilities() (owner any, names []string) {
	return k, []string{"BytesStore", "TTLSetter"}
}

// Fail makes the next calls of SetBytes and SetBytesWithTTL fail, or succeed again.
func (k *Keeper) Fail(fail bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = fail
}

// GetBytes calls the inner store.
func (k *Keeper) GetBytes(ctx context.Context, key string) ([]byte, error) {
	return k.inner.GetBytes(ctx, key)
}

// GetBytesWithTTL calls the inner store.
func (k *Keeper) GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error) {
	return k.inner.GetBytesWithTTL(ctx, key)
}

// SetBytes writes a value, or keeps it and returns ErrKept.
func (k *Keeper) SetBytes(ctx context.Context, key string, value []byte, options ...store.Option) error {
	if k.keeps(value) {
		return ErrKept
	}
	return k.inner.SetBytes(ctx, key, value, options...)
}

// SetBytesWithTTL is SetBytes with an expiration.
func (k *Keeper) SetBytesWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return k.SetBytes(ctx, key, value, store.WithExpiration(ttl), store.WithTags(nil))
}

// keeps reports whether calls fail now, and then keeps the buffer of one.
func (k *Keeper) keeps(value []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		k.kept = append(k.kept, keptBuffer{value, bytes.Clone(value)})
	}
	return k.fail
}

// Kept returns the number of buffers that are kept, and an error if one has changed.
func (k *Keeper) Kept() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.kept {
		if !bytes.Equal(b.buffer, b.was) {
			return len(k.kept), errors.New("storetest: Keeper: the caller of SetBytes changed the value after SetBytes had failed, but the store may still read it")
		}
	}
	return len(k.kept), nil
}
