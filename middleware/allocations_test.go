package middleware_test

import (
	"context"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
)

// slot is a BytesStore of one value that never allocates.
type slot struct {
	*plain
	sealed, copied []byte
}

func (s *slot) Capabilities() (owner any, names []string) { return s, []string{"BytesStore"} }

func (s *slot) GetBytes(context.Context, string) ([]byte, error) {
	s.copied = append(s.copied[:0], s.sealed...)
	return s.copied, nil
}

func (s *slot) GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error) {
	b, err := s.GetBytes(ctx, key)
	return b, 0, err
}

func (s *slot) SetBytes(_ context.Context, _ string, value []byte, _ ...store.Option) error {
	s.sealed = append(s.sealed[:0], value...)
	return nil
}

// A set and a get allocate only what their callers keep.
func TestAllocations(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of the whole process
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	value := make([]byte, 1024)
	var boxed any = value // cache.Cache boxes it, too
	for name, c := range map[string]struct {
		aead     tink.AEADWithContext
		opts     []middleware.Option
		set, get float64
	}{
		"keyring":  {keyring(t), nil, 1, 2}, // the stored name; for a get also the []byte in an interface
		"envelope": {envelope(t), nil, 1, 2},
		"one way":  {keyring(t), []middleware.Option{middleware.WithOneWayKeys(prfSet(t))}, 1, 2},
		"hidden":   {keyring(t), []middleware.Option{middleware.WithHiddenKeys(prfSet(t))}, 1, 3}, // also the name in the value
	} {
		s := sealed(t, &slot{plain: newPlain("slot")}, c.aead, append(c.opts, middleware.WithNamespace("ns"))...)
		ctx := t.Context()
		var key any = "user:1"
		set := testing.AllocsPerRun(1000, func() {
			if s.Set(ctx, key, boxed) != nil {
				panic("set")
			}
		})
		get := testing.AllocsPerRun(1000, func() {
			if _, err := s.Get(ctx, key); err != nil {
				panic(err)
			}
		})
		t.Logf("%s: set %v, get %v allocations", name, set, get)
		require.LessOrEqual(t, set, c.set, name)
		require.LessOrEqual(t, get, c.get, name)
	}
}
