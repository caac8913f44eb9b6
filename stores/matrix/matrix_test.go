package matrix

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/storetest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// backend is a store of the matrix.
type backend struct {
	can storetest.Capabilities

	// open returns an empty store. A later call removes the entries of an earlier one.
	open func(t *testing.T) store.StoreInterface

	// namespaced reports whether the store can clear a namespace.
	namespaced bool
}

// run runs the suite over a backend in plaintext, then sealed with an envelope, and in a namespace if the store can
// clear one.
func (b backend) run(t *testing.T) {
	t.Helper()
	t.Run("clear", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			return storetest.Subject{Store: b.open(t), Can: b.can}
		})
	})
	t.Run("sealed", func(t *testing.T) {
		key := envelope(t)
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			if b.namespaced {
				return b.sealed(t, key, "own")
			}
			return b.sealed(t, key, "")
		})
	})
}

func (b backend) sealed(t *testing.T, key tink.AEADWithContext, namespace string) storetest.Subject {
	t.Helper()
	backing := b.open(t)
	s := storetest.Subject{
		Can: sealed(b.can),
		Raw: func(ctx context.Context, key string) ([]byte, error) {
			value, err := backing.Get(ctx, prefixed(namespace, key))
			if err != nil {
				return nil, err
			}
			switch v := value.(type) {
			case []byte:
				return v, nil
			case string:
				return []byte(v), nil
			}
			return nil, fmt.Errorf("the backing store returned a %T", value)
		},
		Plant: func(ctx context.Context, key string, value []byte) error {
			if b.can.Bytes >= storetest.AsGiven {
				return backing.Set(ctx, prefixed(namespace, key), value)
			}
			return backing.Set(ctx, prefixed(namespace, key), string(value))
		},
	}
	s.Store = seal(t, backing, key, namespace)
	if namespace != "" {
		s.Can.ScopedClear = true
		s.Beside = seal(t, backing, key, "other")
	}
	return s
}

func prefixed(namespace, key string) string {
	if namespace == "" {
		return key
	}
	return namespace + ":" + key
}

func seal(t *testing.T, backing store.StoreInterface, key tink.AEADWithContext, namespace string) *middleware.Store {
	t.Helper()
	var opts []middleware.Option
	if namespace != "" {
		opts = append(opts, middleware.WithNamespace(namespace))
	}
	s, err := middleware.New(backing, key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sealed returns the capabilities of a store after it is sealed. The decorator repairs some defects of a store and
// inherits the others.
func sealed(raw storetest.Capabilities) storetest.Capabilities {
	c := raw
	c.Sealed = true

	c.Bytes, c.Strings, c.Scalars = storetest.AsGiven, storetest.AsGiven, storetest.AsGiven
	c.CopiesBytes = true
	c.KeyErrors = true
	c.MissIsNotFound = true
	c.DeleteMissing = true
	c.TTL.NegativeIsError = c.TTL.PerEntry
	c.TTL.None = max(c.TTL.None, 0)
	c.TTL.Max = 0
	if c.MaxValueBytes > 0 {
		c.MaxValueBytes -= 256
	}
	if c.MaxKeyBytes == 0 {
		c.MaxKeyBytes = 60_000
	}

	c.Swap, c.Enumerate, c.OwnedBytes, c.BoundedRead, c.Ping, c.InvalidatePrefix = false, false, false, false, false, false
	return c
}

func envelope(t *testing.T) *aead.Envelope {
	t.Helper()
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	kek, err := aead.NewKeyring(handle)
	if err != nil {
		t.Fatal(err)
	}
	e, err := aead.NewEnvelope(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := kek.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// own returns the capabilities of this module's stores.
func own(form storetest.Form, resolution time.Duration) storetest.Capabilities {
	return storetest.Capabilities{
		Bytes:          storetest.AsBytes,
		Strings:        form,
		Scalars:        form,
		CopiesBytes:    true,
		AnyKey:         true,
		KeyErrors:      true,
		Clear:          true,
		MissIsNotFound: true,
		DeleteMissing:  true,
		HeedsContext:   true,
		TTL: storetest.TTL{
			PerEntry:        true,
			Resolution:      resolution,
			Reported:        true,
			NegativeIsError: true,
		},
		Tags:             true,
		ConcurrentTags:   true,
		SetIfNotExists:   true,
		Swap:             true,
		Enumerate:        true,
		OwnedBytes:       true,
		BoundedRead:      true,
		Ping:             true,
		InvalidatePrefix: true,
	}
}
