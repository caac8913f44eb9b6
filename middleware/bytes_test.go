package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// GetBytes and SetBytes are Get and Set for bytes, on every kind of backing store and AEAD.
func TestBytes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		inRedis, err := redisstore.New(client, store.WithExpiration(time.Minute), store.WithTags([]string{"default"}))
		require.NoError(t, err)
		for name, backing := range map[string]store.StoreInterface{"memory": memory(t), "redis": inRedis, "other": newPlain("other")} {
			s, ctx := sealed(t, backing, a, middleware.WithNamespace(namespaceOf(t))), t.Context()
			given := []byte("value")
			require.NoError(t, s.SetBytes(ctx, "k", given, time.Hour), name)
			require.Equal(t, "value", string(given), name)
			clear(given)
			for range 2 {
				b, err := s.GetBytes(ctx, "k")
				require.NoError(t, err, name)
				require.Equal(t, "value", string(b), name)
				_ = append(b, "more"...)
				clear(b)
			}
			value, err := s.Get(ctx, "k")
			require.NoError(t, err, name)
			require.Equal(t, []byte("value"), value, name)
			if name != "other" {
				_, left, err := s.GetWithTTL(ctx, "k")
				require.NoError(t, err, name)
				require.InDelta(t, time.Hour, left, float64(time.Minute), name)
				require.NoError(t, s.SetBytes(ctx, "k", nil, 0), name)
				_, left, err = s.GetWithTTL(ctx, "k")
				require.NoError(t, err, name)
				require.Zero(t, left, "no default expiration counts")
				require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"default"})), name)
			}
			require.NoError(t, s.SetBytes(ctx, "k", nil, time.Hour), name)
			b, err := s.GetBytes(ctx, "k")
			require.NoError(t, err, name)
			require.Equal(t, []byte{}, b, name)

			require.NoError(t, s.Set(ctx, "k", "text"), name)
			b, err = s.GetBytes(ctx, "k")
			require.NoError(t, err, name)
			require.Equal(t, "text", string(b), name)
			require.NoError(t, s.Set(ctx, "k", 7), name)
			_, err = s.GetBytes(ctx, "k")
			require.ErrorIs(t, err, middleware.ErrUnsupportedType, name)
			require.ErrorContains(t, err, "int: the value is neither a []byte nor a string", name)

			_, err = s.GetBytes(ctx, "missing")
			require.ErrorIs(t, err, store.NotFound{}, name)
			_, err = s.GetBytes(ctx, "sealcache.key-check")
			require.ErrorIs(t, err, middleware.ErrUnsupported, name)
			require.ErrorIs(t, s.SetBytes(ctx, "sealcache.key-check", []byte("v"), 0), middleware.ErrUnsupported, name)
			require.Error(t, s.SetBytes(ctx, "k", []byte("v"), -time.Second), name)
			require.NoError(t, s.SetBytes(ctx, "k", []byte("v"), -1), "go-redis reports -1 ns for no expiry")
			stopped, cancel := context.WithCancel(ctx)
			cancel()
			require.ErrorIs(t, s.SetBytes(stopped, "k", []byte("other"), 0), context.Canceled, name)
			b, err = s.GetBytes(ctx, "k")
			require.NoError(t, err, name)
			require.Equal(t, "v", string(b), name)
		}
	})
}

// namespaceOf returns a namespace for a test, which shares its server with others.
func namespaceOf(t *testing.T) string {
	t.Helper()
	return strings.NewReplacer("/", "_", ":", "_").Replace(t.Name())
}

// SetBytes writes its tags, and bytes over the bound are refused.
func TestSetBytesTagsAndBound(t *testing.T) {
	t.Parallel()
	s, ctx := sealed(t, memory(t), keyring(t), middleware.WithMaxValueBytes(10)), t.Context()
	require.NoError(t, s.SetBytes(ctx, "k", []byte("v"), time.Hour, "a", "b"))
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"b"})))
	_, err := s.GetBytes(ctx, "k")
	require.ErrorIs(t, err, store.NotFound{})
	require.ErrorIs(t, s.SetBytes(ctx, "k", make([]byte, 11), 0), middleware.ErrTooLarge)
	_, err = s.GetBytes(ctx, "k")
	require.ErrorIs(t, err, store.NotFound{})
}

// GetBytesWithEnd returns the end that is sealed with a value, for any TTL in the backing store.
func TestGetBytesWithEnd(t *testing.T) {
	t.Parallel()
	for name, backing := range map[string]store.StoreInterface{"memory": memory(t), "other": newPlain("other")} {
		plain, ctx := sealed(t, backing, keyring(t)), t.Context()
		ending, err := plain.With(middleware.WithAuthenticatedExpiry())
		require.NoError(t, err)
		for _, s := range []*middleware.Store{plain, ending} {
			for _, ttl := range []time.Duration{0, time.Hour} {
				require.NoError(t, s.SetBytes(ctx, "k", []byte("v"), ttl), name)
				b, end, err := plain.GetBytesWithEnd(ctx, "k")
				require.NoError(t, err, name)
				require.Equal(t, "v", string(b), name)
				require.Equal(t, s == plain || ttl == 0, end.IsZero(), name)
				if !end.IsZero() {
					require.WithinDuration(t, time.Now().Add(time.Hour), end, time.Minute, name)
				}
			}
		}
		_, _, err = plain.GetBytesWithEnd(ctx, "missing")
		require.ErrorIs(t, err, store.NotFound{}, name)
	}
	open := sealed(t, newPlain("other"), keyring(t), middleware.WithPlaintext(middleware.WritePlaintext))
	require.NoError(t, open.SetBytes(t.Context(), "k", []byte("plain"), time.Hour))
	b, end, err := open.GetBytesWithEnd(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "plain", string(b))
	require.Zero(t, end)
}

// SetBytes seals a value and binds it to its name. GetBytes refuses an altered value.
func TestBytesAreSealed(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s, ctx := sealed(t, m, keyring(t)), t.Context()
	secret := []byte("a secret of the test")
	require.NoError(t, s.SetBytes(ctx, "k", secret, time.Hour))
	stored, err := m.GetBytes(ctx, "k")
	require.NoError(t, err)
	require.NotContains(t, string(stored), "secret")
	require.NoError(t, m.SetBytes(ctx, "moved", stored))
	_, err = s.GetBytes(ctx, "moved")
	require.ErrorIs(t, err, middleware.ErrUnauthentic)
	stored[len(stored)-1] ^= 1
	require.NoError(t, m.SetBytes(ctx, "k", stored))
	_, err = s.GetBytes(ctx, "k")
	require.ErrorIs(t, err, middleware.ErrUnauthentic)
	require.NoError(t, m.SetBytes(ctx, "k", secret))
	_, err = s.GetBytes(ctx, "k")
	require.ErrorIs(t, err, middleware.ErrNotSealed)
	require.ErrorContains(t, err, "another application may have written it") // before any remedy
	lenient := sealed(t, m, keyring(t), middleware.WithMissOnOpenFailure())
	_, err = lenient.GetBytes(ctx, "k")
	require.ErrorIs(t, err, store.NotFound{})
}

// The plaintext policies count for bytes as for other values.
func TestBytesAndPlaintext(t *testing.T) {
	t.Parallel()
	for _, backing := range []store.StoreInterface{memory(t), newPlain("other")} {
		writer, ctx := sealed(t, backing, keyring(t), middleware.WithPlaintext(middleware.WritePlaintext)), t.Context()
		require.NoError(t, writer.SetBytes(ctx, "k", []byte("plain"), time.Hour))
		raw, err := backing.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, []byte("plain"), raw)
		require.NoError(t, backing.Set(ctx, "text", "a string"))
		reader := sealed(t, backing, keyring(t), middleware.WithPlaintext(middleware.ReadPlaintext))
		for key, want := range map[string]string{"k": "plain", "text": "a string"} {
			b, err := reader.GetBytes(ctx, key)
			require.NoError(t, err)
			require.Equal(t, want, string(b))
			require.NoError(t, reader.SetBytes(ctx, key, b, time.Hour))
			_, err = writer.GetBytes(ctx, key)
			require.ErrorIs(t, err, middleware.ErrUnknownKey, "the reader has sealed it under its keyring")
		}
	}
}

// With several PRF keys, GetBytes looks under each, and SetBytes removes the entries under the others.
func TestBytesUnderSeveralPRFKeys(t *testing.T) {
	t.Parallel()
	m, a, keys, ctx := memory(t), keyring(t), newPRFKeys(t, 2), t.Context()
	before := sealed(t, m, a, middleware.WithHiddenKeys(keys.set(t, 0)))
	after := sealed(t, m, a, middleware.WithHiddenKeys(keys.set(t, 1)))
	require.NoError(t, before.SetBytes(ctx, "k", []byte("old"), time.Hour))
	b, err := after.GetBytes(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "old", string(b))
	require.NoError(t, after.SetBytes(ctx, "k", []byte("new"), time.Hour))
	require.Len(t, names(t, m), 1)
	for _, s := range []*middleware.Store{before, after} {
		b, err = s.GetBytes(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "new", string(b))
	}
}

// A TTLSetter that is no Defaulter is used by SetBytes only: Set would lose the defaults that it applies.
func TestTTLSetterWithDefaults(t *testing.T) {
	t.Parallel()
	m, err := memorystore.New(memorystore.WithDefaults(store.WithExpiration(time.Minute)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	for name, listed := range map[string][]string{"Defaulter": {"BytesStore", "Defaulter", "TTLSetter"}, "no-Defaulter": {"BytesStore", "TTLSetter"}} {
		s, ctx := sealed(t, &only{m, listed}, keyring(t), middleware.WithNamespace(name)), t.Context()
		require.NoError(t, s.Set(ctx, "k", "v"))
		_, left, err := s.GetWithTTL(ctx, "k")
		require.NoError(t, err)
		require.InDelta(t, time.Minute, left, float64(10*time.Second), name)
		require.NoError(t, s.SetBytes(ctx, "k", []byte("v"), time.Hour))
		_, left, err = s.GetWithTTL(ctx, "k")
		require.NoError(t, err)
		require.InDelta(t, time.Hour, left, float64(10*time.Second), name)
	}
}

// A TTLSetter that does not list BytesStore is not used: SetBytes would lose the TTL, and write default tags as plain names.
func TestTTLSetterWithoutBytesStore(t *testing.T) {
	t.Parallel()
	m, err := memorystore.New(memorystore.WithDefaults(store.WithTags([]string{"plain"})))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	for _, listed := range [][]string{{"TTLSetter"}, {"TTLSetter", "Defaulter"}} {
		s, ctx := sealed(t, &only{m, listed}, keyring(t)), t.Context()
		require.NoError(t, s.SetBytes(ctx, "k", []byte("v"), time.Hour))
		_, left, err := m.GetWithTTL(ctx, "k")
		require.NoError(t, err)
		require.InDelta(t, time.Hour, left, float64(time.Minute))
	}
}

// nilForEmpty returns nil for an empty plaintext, as Go's GCM does.
type nilForEmpty struct{ tink.AEADWithContext }

func (n nilForEmpty) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	p, err := n.AEADWithContext.DecryptWithContext(ctx, c, ad)
	if len(p) == 0 {
		p = nil
	}
	return p, err
}

func TestEmptyBytesAreNotNil(t *testing.T) {
	t.Parallel()
	s, ctx := sealed(t, memory(t), nilForEmpty{foreign(t)}), t.Context()
	require.NoError(t, s.SetBytes(ctx, "k", nil, 0))
	b, err := s.GetBytes(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, []byte{}, b)
}

// A sound value of another type is neither a miss nor a refusal that is logged.
func TestGetBytesOfAnotherTypeIsNoMiss(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := sealed(t, memory(t), keyring(t), middleware.WithMissOnOpenFailure(), middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, s.Set(t.Context(), "k", 7))
	_, err := s.GetBytes(t.Context(), "k")
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	require.NotErrorIs(t, err, store.NotFound{})
	require.Empty(t, log.String())
}

// only is a store with some of the capabilities of a memory store.
type only struct {
	*memorystore.Store
	names []string
}

func (o *only) Capabilities() (owner any, names []string) { return o, o.names }

// Callers at the same time get their own bytes.
func TestBytesConcurrently(t *testing.T) {
	t.Parallel()
	s, ctx := sealed(t, memory(t), envelope(t)), t.Context()
	failed := make(chan error, 8)
	for w := range 8 {
		go func() {
			key, value := string(rune('a'+w)), bytes.Repeat([]byte{byte(w)}, 100+w)
			var err error
			for range 500 {
				var b []byte
				if err = s.SetBytes(ctx, key, value, time.Hour); err == nil {
					b, err = s.GetBytes(ctx, key)
				}
				if err == nil && !bytes.Equal(b, value) {
					err = errors.New("another value")
				}
				if err != nil {
					break
				}
				clear(b)
			}
			failed <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-failed)
	}
}
