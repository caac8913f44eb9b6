package middleware_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

type badFormat struct{ middleware.Codec }

func (badFormat) Format() middleware.Format { return 1 }

// pointerCodec and pointerPRF have methods that need a pointer that is not nil.
type (
	pointerCodec struct{ middleware.Codec }
	pointerPRF   struct{ prf.PRF }
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	k, m := keyring(t), memory(t)
	var typedNilStore *memorystore.Store
	var typedNilAEAD *aead.Keyring
	for want, f := range map[string]func() (*middleware.Store, error){
		"the backing store is nil": func() (*middleware.Store, error) { return middleware.New(nil, k) },
		"backing store is nil":     func() (*middleware.Store, error) { return middleware.New(typedNilStore, k) },
		"AEAD is nil":              func() (*middleware.Store, error) { return middleware.New(m, nil) },
		"aead.NewEnvelope":         func() (*middleware.Store, error) { return middleware.New(m, typedNilAEAD) },
		"already a sealed store":   func() (*middleware.Store, error) { return middleware.New(sealed(t, m, k), k) },
		"option 1 of 1 is nil":     func() (*middleware.Store, error) { return middleware.New(m, k, nil) },
		"namespace has 0":          func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithNamespace("")) },
		"namespace has 65": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithNamespace(strings.Repeat("n", 65)))
		},
		`byte ":" at position 1`: func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithNamespace("a:b")) },
		`byte "*" at position 0`: func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithNamespace("*")) },
		"codec is nil":           func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithCodec(nil)) },
		"WithCodec: the codec is nil": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithCodec((*pointerCodec)(nil)))
		},
		"the PRF key 7 is nil": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithHiddenKeys(&prf.Set{PrimaryID: 7, PRFs: map[uint32]prf.PRF{7: (*pointerPRF)(nil)}}))
		},
		"is reserved":         func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithCodec(badFormat{})) },
		"policy 9 is unknown": func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithPlaintext(9)) },
		"needs WithPlaintext with a policy": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithPlaintextUntil(time.Now()))
		},
		"must not be zero": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithPlaintextUntil(time.Time{}))
		},
		"the size limit for a value is 0 bytes": func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithMaxValueBytes(0)) },
		"but must be from 1 through": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithMaxValueBytes(math.MaxInt/2+1))
		},
		"logger is nil":      func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithLogger(nil)) },
		"Provider is nil":    func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithMeterProvider(nil)) },
		"WithTracerProvider": func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithTracerProvider(nil)) },
		"is negative": func() (*middleware.Store, error) {
			return middleware.New(m, k, middleware.WithDefaults(store.WithExpiration(-time.Second)))
		},
		"WithDefaults: a": func() (*middleware.Store, error) { return middleware.New(m, k, middleware.WithDefaults(nil)) },
	} {
		s, err := f()
		require.ErrorContains(t, err, want)
		require.Nil(t, s)
	}
	// New reports all mistakes at once.
	_, err := middleware.New(m, k, middleware.WithNamespace(""), middleware.WithMaxValueBytes(-1))
	require.ErrorContains(t, err, "namespace")
	require.ErrorContains(t, err, "WithMaxValueBytes")
}

func TestKeysMustBeStrings(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t))
	for _, key := range []any{42, nil, []byte("k"), struct{}{}} {
		_, err := s.Get(t.Context(), key)
		require.ErrorIs(t, err, middleware.ErrUnsupportedType)
		_, _, err = s.GetWithTTL(t.Context(), key)
		require.ErrorIs(t, err, middleware.ErrUnsupportedType)
		require.ErrorIs(t, s.Set(t.Context(), key, "v"), middleware.ErrUnsupportedType)
		require.ErrorIs(t, s.Delete(t.Context(), key), middleware.ErrUnsupportedType)
		_, err = s.SetIfNotExists(t.Context(), key, "v")
		require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	}
}

func TestKeysOfAnyBytes(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		s := sealed(t, memory(t), a)
		keys := []string{"", "a", "a:b", "\x00", "\xff\xfe", "日本", "a\r\nb", "*", "[x]", strings.Repeat("k", 1<<20)}
		for _, k := range keys {
			require.NoError(t, s.Set(t.Context(), k, k))
		}
		for _, k := range keys {
			got, err := s.Get(t.Context(), k)
			require.NoError(t, err)
			require.Equal(t, k, got)
		}
	})
}

func TestMaxValueBytes(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithMaxValueBytes(10), middleware.WithCodec(middleware.JSON[[]int]()))
	require.NoError(t, s.Set(t.Context(), "k", make([]byte, 10)))
	require.ErrorIs(t, s.Set(t.Context(), "k", make([]byte, 11)), middleware.ErrTooLarge)
	require.ErrorIs(t, s.Set(t.Context(), "k", "12345678901"), middleware.ErrTooLarge)
	require.ErrorIs(t, s.Set(t.Context(), "k", make([]int, 20)), middleware.ErrTooLarge)
	clearly := sealed(t, newPlain("x"), keyring(t), middleware.WithMaxValueBytes(10), middleware.WithPlaintext(middleware.WritePlaintext))
	require.ErrorIs(t, clearly.Set(t.Context(), "k", "12345678901"), middleware.ErrTooLarge)

	for name, backing := range map[string]store.StoreInterface{"bounded reads": memory(t), "other reads": newPlain("x")} {
		largest := sealed(t, backing, keyring(t), middleware.WithMaxValueBytes(math.MaxInt/2))
		require.NoError(t, largest.Set(t.Context(), "k", "v"), name)
		got, err := largest.Get(t.Context(), "k")
		require.NoError(t, err, name)
		require.Equal(t, "v", got, name)
	}
}

func TestExpirations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind     string
		defaults []store.Option
		opts     []store.Option
		want     time.Duration
	}{
		"none":                         {kind: "redis"},
		"as given":                     {kind: "redis", opts: []store.Option{store.WithExpiration(1500 * time.Microsecond)}, want: 1500 * time.Microsecond},
		"default":                      {kind: "redis", defaults: []store.Option{store.WithExpiration(time.Hour)}, want: time.Hour},
		"given beats default":          {kind: "redis", defaults: []store.Option{store.WithExpiration(time.Hour)}, opts: []store.Option{store.WithExpiration(time.Minute)}, want: time.Minute},
		"go-redis' no expiry":          {kind: "redis", opts: []store.Option{store.WithExpiration(-1)}},
		"no expiry as default":         {kind: "redis", defaults: []store.Option{store.WithExpiration(-1)}},
		"freecache rounds up":          {kind: "freecache", opts: []store.Option{store.WithExpiration(500 * time.Millisecond)}, want: time.Second},
		"rueidis rounds up":            {kind: "rueidis", opts: []store.Option{store.WithExpiration(1100 * time.Millisecond)}, want: 2 * time.Second},
		"memcache rounds up":           {kind: "memcache", opts: []store.Option{store.WithExpiration(time.Millisecond)}, want: time.Second},
		"memcache: 30 days as it is":   {kind: "memcache", opts: []store.Option{store.WithExpiration(30 * 24 * time.Hour)}, want: 30 * 24 * time.Hour},
		"memcache: whole seconds stay": {kind: "memcache", opts: []store.Option{store.WithExpiration(3 * time.Second)}, want: 3 * time.Second},
	} {
		backing := newPlain(c.kind)
		s := sealed(t, backing, keyring(t), middleware.WithDefaults(c.defaults...))
		require.NoError(t, s.Set(t.Context(), "k", "v", c.opts...), name)
		require.Equal(t, c.want, backing.options["k"].Expiration, name)
	}

	// memcached reads an expiry over 30 days as a Unix time.
	backing := newPlain("memcache")
	s := sealed(t, backing, keyring(t))
	require.NoError(t, s.Set(t.Context(), "k", "v", store.WithExpiration(60*24*time.Hour)))
	require.InDelta(t, time.Now().Add(60*24*time.Hour).Unix(), backing.options["k"].Expiration.Seconds(), 60)

	// A value that has already expired is not stored without expiry.
	err := s.Set(t.Context(), "k", "v", store.WithExpiration(-time.Second))
	require.ErrorContains(t, err, "is negative")
	_, err = s.SetIfNotExists(t.Context(), "k", "v", store.WithExpiration(-time.Second))
	require.Error(t, err)
}

// The error of rueidis for an entry without expiration does not name the remedy.
func TestRueidisNeedsAnExpiration(t *testing.T) {
	t.Parallel()
	backing := newPlain("rueidis")
	backing.err = errors.New("ERR invalid expire time in 'set' command")
	err := sealed(t, backing, keyring(t)).Set(t.Context(), "k", "v")
	require.ErrorIs(t, err, backing.err)
	require.ErrorContains(t, err, "WithDefaults")
}

func TestReportedTTLs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind      string
		ttl, want time.Duration
	}{
		"as it is":                     {"redis", time.Minute, time.Minute},
		"no expiry":                    {"redis", -1, 0},
		"under half a second":          {"redis", 0, time.Millisecond},
		"cluster, under half":          {"rediscluster", 0, time.Millisecond},
		"expired between GET and TTL":  {"redis", -2, time.Millisecond},
		"memcache does not know":       {"memcache", 0, 0},
		"go-cache without an expiry":   {"go-cache", time.Until(time.Time{}), 0},
		"in memory, without an expiry": {"ristretto", 0, 0},
	} {
		backing := newPlain(c.kind)
		s := sealed(t, backing, keyring(t))
		require.NoError(t, s.Set(t.Context(), "k", "v"))
		backing.ttl = c.ttl
		_, ttl, err := s.GetWithTTL(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, c.want, ttl, name)
	}
}

func TestTagsAreScoped(t *testing.T) {
	t.Parallel()
	backing := newPlain("redis")
	tags := []string{"a", "b"}
	require.NoError(t, sealed(t, backing, keyring(t), middleware.WithNamespace("n")).Set(t.Context(), "k", "v", store.WithTags(tags)))
	require.Equal(t, []string{"n:a", "n:b"}, backing.options["n:k"].Tags)
	require.Equal(t, []string{"a", "b"}, tags, "the caller's slice stays as it is")
	require.NoError(t, sealed(t, backing, keyring(t)).Set(t.Context(), "k", "v", store.WithTags(tags)))
	require.Equal(t, tags, backing.options["k"].Tags)

	m, a := memory(t), keyring(t)
	one := sealed(t, m, a, middleware.WithNamespace("one"))
	two := sealed(t, m, a, middleware.WithNamespace("two"))
	for _, s := range []*middleware.Store{one, two} {
		require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"t"})))
		require.NoError(t, s.Set(t.Context(), "other", "v", store.WithTags([]string{"u"})))
	}
	require.NoError(t, one.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
	_, err := one.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})
	for _, get := range []func() (any, error){
		func() (any, error) { return one.Get(t.Context(), "other") },
		func() (any, error) { return two.Get(t.Context(), "k") },
	} {
		_, err := get()
		require.NoError(t, err)
	}
}

// The last of several equal options counts, as With needs it.
func TestLastOptionCounts(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t), middleware.WithNamespace("first"), middleware.WithNamespace("last"))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Equal(t, []string{"last:k"}, names(t, m))
}
