package middleware_test

import (
	"context"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// A planted value over the bound is ErrTooLarge for every reader. With WithMissOnOpenFailure it is a miss.
func TestReadsStopAtTheBound(t *testing.T) {
	t.Parallel()
	huge := make([]byte, 1<<20)
	copy(huge, []byte{0xC1, 0x5C, 1, 1, 1})
	plaintext := make([]byte, 1<<20)
	for name, open := range map[string]func() store.StoreInterface{
		"bounded":  func() store.StoreInterface { return &metered{Store: memory(t)} },
		"go-cache": func() store.StoreInterface { return newPlain("go-cache") },
		"rueidis":  func() store.StoreInterface { return newPlain("rueidis") },
	} {
		for policy, opts := range map[string][]middleware.Option{
			"reject": nil,
			"read":   {middleware.WithPlaintext(middleware.ReadPlaintext)},
			"codec":  {middleware.WithPlaintext(middleware.ReadPlaintext), middleware.WithCodec(middleware.JSON[user]())},
		} {
			b, a := open(), envelope(t)
			s := sealed(t, b, a, append(opts, middleware.WithMaxValueBytes(1024))...)
			require.NoError(t, s.Set(t.Context(), "fits", make([]byte, 1024)))
			_, err := s.Get(t.Context(), "fits")
			require.NoError(t, err)
			_, _, err = s.GetWithTTL(t.Context(), "fits")
			require.NoError(t, err)
			require.NoError(t, sealed(t, b, a).Set(t.Context(), "sealed", make([]byte, 1025)))
			require.NoError(t, b.Set(t.Context(), "huge", huge))
			require.NoError(t, b.Set(t.Context(), "plaintext", plaintext))
			for _, key := range []string{"sealed", "huge", "plaintext"} {
				if policy == "reject" && key == "plaintext" && name != "bounded" {
					_, err = s.Get(t.Context(), key)
					require.ErrorIs(t, err, middleware.ErrNotSealed, name)
					continue
				}
				_, err = s.Get(t.Context(), key)
				require.ErrorIs(t, err, middleware.ErrTooLarge, "%s %s %s", name, policy, key)
				require.NotErrorIs(t, err, store.NotFound{})
				_, _, err = s.GetWithTTL(t.Context(), key)
				require.ErrorIs(t, err, middleware.ErrTooLarge, "%s %s %s", name, policy, key)
				missing := sealed(t, b, a, append(opts, middleware.WithMaxValueBytes(1024), middleware.WithMissOnOpenFailure())...)
				_, err = missing.Get(t.Context(), key)
				require.ErrorIs(t, err, store.NotFound{})
				require.ErrorIs(t, err, middleware.ErrTooLarge)
			}
		}
	}
}

// metered counts what its reads return.
type metered struct {
	*memorystore.Store
	limits []int
}

type tooLarge struct{}

func (tooLarge) Error() string  { return "a value of secret bytes" }
func (tooLarge) TooLarge() bool { return true }

func (m *metered) Capabilities() (owner any, names []string) {
	return m, []string{"BytesStore", "BoundedReader"}
}

func (m *metered) SetBytes(ctx context.Context, key string, value []byte, opts ...store.Option) error {
	return m.Store.SetBytes(ctx, key, value, opts...)
}

func (m *metered) Set(ctx context.Context, key, value any, opts ...store.Option) error {
	return m.Store.Set(ctx, key, value, opts...)
}

func (m *metered) GetBytesMax(ctx context.Context, key string, limit int) ([]byte, error) {
	b, _, err := m.GetBytesWithTTLMax(ctx, key, limit)
	return b, err
}

func (m *metered) GetBytesWithTTLMax(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	m.limits = append(m.limits, limit)
	b, ttl, err := m.GetBytesWithTTL(ctx, key)
	if len(b) > limit {
		return nil, 0, tooLarge{}
	}
	return b, ttl, err
}

// The store passes the bound to a backing store that is a BoundedReader.
func TestBoundedReader(t *testing.T) {
	t.Parallel()
	m := &metered{Store: memory(t)}
	s := sealed(t, m, envelope(t), middleware.WithMaxValueBytes(1024))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", got)
	_, _, err = s.GetWithTTL(t.Context(), "k")
	require.NoError(t, err)
	require.Len(t, m.limits, 2)
	require.Greater(t, m.limits[0], 1024)
	require.Less(t, m.limits[0], 32<<10) // room for sealed names and padding
	require.NoError(t, m.Set(t.Context(), "k", make([]byte, 1<<20)))
	_, err = s.Get(t.Context(), "k")
	require.ErrorIs(t, err, middleware.ErrTooLarge)
	require.ErrorContains(t, err, "it has more than 1024 bytes (raise WithMaxValueBytes)")
	require.NotContains(t, err.Error(), "secret")

	// Without the option, reads have no bound.
	require.NoError(t, sealed(t, m, envelope(t)).Set(t.Context(), "k", "v"))
	limits := len(m.limits)
	_, _ = sealed(t, m, envelope(t)).Get(t.Context(), "k")
	require.Len(t, m.limits, limits)
}

// A probe reads a bounded part of a planted key check, also without WithMaxValueBytes.
func TestTheKeyCheckIsReadWithABound(t *testing.T) {
	t.Parallel()
	m := &metered{Store: memory(t)}
	require.NoError(t, m.Set(t.Context(), "ns:sealcache.key-check", make([]byte, 1<<20)))
	s := sealed(t, m, envelope(t), middleware.WithNamespace("ns"))
	require.NoError(t, s.Check(t.Context()))
	require.ErrorIs(t, s.KeysDiffer(), middleware.ErrTooLarge)
	require.ErrorContains(t, s.KeysDiffer(), "the entry sealcache.key-check has more than 65536 bytes (delete the entry)")
	require.NotEmpty(t, m.limits)
	for _, limit := range m.limits {
		require.LessOrEqual(t, limit, 64<<10)
	}
}
