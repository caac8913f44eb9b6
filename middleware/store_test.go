package middleware_test

import (
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

func TestMissesAreOfOneKind(t *testing.T) {
	t.Parallel()
	for name, backing := range map[string]store.StoreInterface{
		"memory":   memory(t),
		"gocache":  newPlain("redis"),
		"bigcache": &plain{kind: "bigcache", values: map[string]any{}, missErr: errors.New("Entry not found")},
	} {
		s := sealed(t, backing, keyring(t))
		_, err := s.Get(t.Context(), "absent")
		require.ErrorIs(t, err, store.NotFound{}, name)
		_, _, err = s.GetWithTTL(t.Context(), "absent")
		require.ErrorIs(t, err, store.NotFound{}, name)
		var nf *store.NotFound
		require.ErrorAs(t, err, &nf, "the type that gocache's own stores return")
		require.NoError(t, s.Delete(t.Context(), "absent"), name)
	}
	freecache := sealed(t, &plain{kind: "freecache", values: map[string]any{}, missErr: errors.New("failed to delete key absent")}, keyring(t))
	require.NoError(t, freecache.Delete(t.Context(), "absent"))
}

// The store passes on errors of the backing store. Error texts name no keys or values.
func TestBackingErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	backing := newPlain("redis")
	backing.err = cause
	s := sealed(t, backing, keyring(t))
	calls := map[string]func(s *middleware.Store) error{
		"Get":        func(s *middleware.Store) error { _, err := s.Get(t.Context(), "k"); return err },
		"GetWithTTL": func(s *middleware.Store) error { _, _, err := s.GetWithTTL(t.Context(), "k"); return err },
		"Set":        func(s *middleware.Store) error { return s.Set(t.Context(), "k", "v") },
		"Delete":     func(s *middleware.Store) error { return s.Delete(t.Context(), "k") },
		"Invalidate": func(s *middleware.Store) error {
			return s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"}))
		},
		"Clear": func(s *middleware.Store) error { return s.Clear(t.Context()) },
		"Check": func(s *middleware.Store) error { return s.Check(t.Context()) },
	}
	for name, call := range calls {
		require.ErrorIs(t, call(s), cause, name)
	}
	talking := newPlain("ristretto")
	talking.err = errors.New("An error has occurred while setting value '" + canary + "' on key '" + canary + "'")
	for name, call := range calls {
		err := call(sealed(t, talking, keyring(t)))
		require.ErrorIs(t, err, talking.err, name)
		require.NotContains(t, err.Error(), canary, name)
	}
	quoting := newPlain("redis")
	for _, text := range []string{
		"ERR unknown command 'get', with args beginning with: '" + canary + "' ",
		"redis: can't parse reply=\"" + canary + "\"",
		`strconv.ParseInt: parsing "` + canary + `": invalid syntax`,
		"NOPERM User app has no permissions to access the '" + canary + "' key",
	} {
		quoting.err = errors.New(text)
		for name, call := range calls {
			err := call(sealed(t, quoting, keyring(t)))
			require.ErrorIs(t, err, quoting.err, name)
			require.NotContains(t, err.Error(), canary, name)
			require.Contains(t, err.Error(), text[:10], "%s: what is no secret stays", name)
		}
	}
}

func TestContextIsPassedOn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := sealed(t, memory(t), envelope(t))
	_, err := s.Get(ctx, "k")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Set(ctx, "k", "v"), context.Canceled)
}

func TestSetIfNotExists(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, envelope(t), middleware.WithNamespace("n"))
	written, err := s.SetIfNotExists(t.Context(), "k", int64(1), store.WithExpiration(time.Hour), store.WithTags([]string{"t"}))
	require.NoError(t, err)
	require.True(t, written)
	require.True(t, isSealed(t, raw(t, m, "n:k")))
	written, err = s.SetIfNotExists(t.Context(), "k", int64(2))
	require.NoError(t, err)
	require.False(t, written)
	got, ttl, err := s.GetWithTTL(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, int64(1), got)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
	_, err = s.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})

	_, err = sealed(t, newPlain("go-cache"), keyring(t)).SetIfNotExists(t.Context(), "k", 1)
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorIs(t, err, store.ErrNotSupported, "what cache.Cache looks for")
}

// SetIfNotExists treats the same entries as absent that Get reports as a miss.
func TestSetIfNotExistsReplacesUnreadable(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	s := sealed(t, m, a, middleware.WithMissOnOpenFailure())
	plant := map[string]func(){
		"plaintext": func() { require.NoError(t, m.Set(t.Context(), "k", "plaintext")) },
		"moved": func() {
			require.NoError(t, sealed(t, m, a).Set(t.Context(), "other", "v"))
			require.NoError(t, m.SetBytes(t.Context(), "k", raw(t, m, "other")))
		},
	}
	for name, p := range plant {
		p()
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{}, name)
		p()
		written, err := s.SetIfNotExists(t.Context(), "k", "mine", store.WithExpiration(time.Hour))
		require.NoError(t, err, name)
		require.True(t, written, name)
		got, ttl, err := s.GetWithTTL(t.Context(), "k")
		require.NoError(t, err, name)
		require.Equal(t, "mine", got, name)
		require.InDelta(t, time.Hour, ttl, float64(time.Minute), name)
		written, err = s.SetIfNotExists(t.Context(), "k", "second")
		require.NoError(t, err)
		require.False(t, written)

		// Without the option the entry exists, and Get returns its fault.
		p()
		strict := sealed(t, m, a)
		written, err = strict.SetIfNotExists(t.Context(), "k", "v")
		require.NoError(t, err)
		require.False(t, written)
	}

	// The new entry gets the expiry of the backing store's defaults.
	brief, err := memorystore.New(memorystore.WithDefaults(store.WithExpiration(time.Hour)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, brief.Close()) })
	require.NoError(t, brief.Set(t.Context(), "k", "plaintext", store.WithExpiration(-1)))
	written, err := sealed(t, brief, a, middleware.WithMissOnOpenFailure()).SetIfNotExists(t.Context(), "k", "v")
	require.NoError(t, err)
	require.True(t, written)
	_, ttl, err := brief.GetWithTTL(t.Context(), "k")
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))

	// A store that only swaps cannot set tags in that step.
	swapping := sealed(t, &swapperOnly{m}, a, middleware.WithMissOnOpenFailure())
	plant["plaintext"]()
	_, err = swapping.SetIfNotExists(t.Context(), "k", "v", store.WithTags([]string{"t"}))
	require.ErrorIs(t, err, middleware.ErrUnsupported, "never an entry that its tags do not reach")
	written, err = swapping.SetIfNotExists(t.Context(), "k", "v")
	require.NoError(t, err)
	require.True(t, written)
}

// swapperOnly is a memorystore without the capability AtomicStore.
type swapperOnly struct{ *memorystore.Store }

func (s *swapperOnly) Capabilities() (owner any, names []string) {
	_, names = s.Store.Capabilities()
	return s, slices.DeleteFunc(names, func(n string) bool { return n == "AtomicStore" })
}

func TestMissOnOpenFailure(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t), middleware.WithMissOnOpenFailure())
	require.NoError(t, m.Set(t.Context(), "plaintext", "v"))
	_, err := s.Get(t.Context(), "plaintext")
	require.ErrorIs(t, err, store.NotFound{})
	require.ErrorIs(t, err, middleware.ErrNotSealed, "the reason stays")
	require.NoError(t, sealed(t, m, keyring(t)).Set(t.Context(), "foreign", "v"))
	_, _, err = s.GetWithTTL(t.Context(), "foreign")
	require.ErrorIs(t, err, store.NotFound{})
	require.ErrorIs(t, err, middleware.ErrUnknownKey)

	// An outage of the store is not a miss.
	broken := newPlain("redis")
	broken.err = errors.New("down")
	_, err = sealed(t, broken, keyring(t), middleware.WithMissOnOpenFailure()).Get(t.Context(), "k")
	require.ErrorIs(t, err, broken.err)
	require.NotErrorIs(t, err, store.NotFound{})
}

func TestClearIsScoped(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	one := sealed(t, m, a, middleware.WithNamespace("one"))
	two := sealed(t, m, a, middleware.WithNamespace("two"))
	prefix := sealed(t, m, a, middleware.WithNamespace("one-more"))
	for _, s := range []*middleware.Store{one, two, prefix} {
		require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"t"})))
	}
	require.NoError(t, m.Set(t.Context(), "one", "plaintext, of someone else"))
	require.NoError(t, one.Clear(t.Context()))
	_, err := one.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})
	for _, s := range []*middleware.Store{two, prefix} {
		_, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
	}
	_, err = m.Get(t.Context(), "one")
	require.NoError(t, err)

	// Clear does not empty a store that cannot enumerate.
	backing := newPlain("redis")
	s := sealed(t, backing, a, middleware.WithNamespace("n"))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.ErrorIs(t, s.Clear(t.Context()), middleware.ErrUnsupported)
	require.Len(t, backing.values, 1)
	require.NoError(t, sealed(t, backing, a).Clear(t.Context()), "without a namespace it is the backing store's own")
	require.Empty(t, backing.values)
}

func TestKeysOfANamespace(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	s := sealed(t, m, a, middleware.WithNamespace("n"))
	want := []string{"a", "b", "n:a", ""}
	for _, k := range want {
		require.NoError(t, s.Set(t.Context(), k, "v", store.WithTags([]string{"t"})))
	}
	require.NoError(t, sealed(t, m, a, middleware.WithNamespace("nn")).Set(t.Context(), "c", "v"))
	var got []string
	for k, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		got = append(got, k)
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)

	for _, err := range sealed(t, newPlain("redis"), a).Keys(t.Context()) {
		require.ErrorIs(t, err, middleware.ErrUnsupported)
	}
	for _, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		break // a caller may stop early
	}
}

type closing struct {
	*plain
	closed int
}

func (c *closing) Close() error { c.closed++; return io.ErrClosedPipe }

func TestCloseClosesTheBackingStore(t *testing.T) {
	t.Parallel()
	c := &closing{plain: newPlain("x")}
	require.ErrorIs(t, sealed(t, c, keyring(t)).Close(), io.ErrClosedPipe)
	require.Equal(t, 1, c.closed)
	require.NoError(t, sealed(t, newPlain("x"), keyring(t)).Close())
}

// A future method of gocache must not pass values unsealed. So Store embeds no type, and has only the known methods.
func TestNothingIsEmbedded(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[middleware.Store]()
	for f := range typ.NumField() {
		require.False(t, typ.Field(f).Anonymous, typ.Field(f).Name)
	}
	var names []string
	ptr := reflect.TypeFor[*middleware.Store]()
	for m := range ptr.NumMethod() {
		names = append(names, ptr.Method(m).Name)
	}
	require.Equal(t, []string{
		"CanTouch", "Check", "Clear", "Close", "Delete", "DeleteMany", "Format", "Get", "GetAndDelete", "GetBytes", "GetBytesWithEnd", "GetMany", "GetType", "GetWithTTL",
		"GoString", "HidesNames", "Increment", "Invalidate", "Keys", "KeysDiffer", "LogValue", "OtherKeyReads", "Set", "SetBytes", "SetIfExists", "SetIfNotExists", "SetMany", "String", "TagsKept", "Touch", "Update", "With",
	}, names,
		"a new method: does it seal?")
}

func TestGetTypeIsTheBackingStores(t *testing.T) {
	t.Parallel()
	require.Equal(t, "bigcache", sealed(t, newPlain("bigcache"), keyring(t)).GetType())
}

// A caller's mistake is not a miss.
func TestMissOnOpenFailureHidesNoMistake(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithMissOnOpenFailure())
	_, err := s.Get(t.Context(), 42)
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	require.NotErrorIs(t, err, store.NotFound{})
	require.ErrorContains(t, s.Set(t.Context(), "k", "v", nil), "a store.Option that the caller gave is nil")
	for _, namespace := range [][]middleware.Option{nil, {middleware.WithNamespace("ns")}} {
		s := sealed(t, newPlain("redis"), keyring(t), namespace...)
		require.ErrorContains(t, s.Invalidate(t.Context(), nil), "a store.InvalidateOption that the caller gave is nil")
	}
}
