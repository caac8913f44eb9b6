package middleware_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// prfKeys is a PRF keyset under change.
type prfKeys struct {
	manager *keyset.Manager
	ids     []uint32
}

func newPRFKeys(t testing.TB, n int) *prfKeys {
	t.Helper()
	k := &prfKeys{manager: keyset.NewManager()}
	for range n {
		id, err := k.manager.Add(prf.HMACSHA256PRFKeyTemplate())
		require.NoError(t, err)
		k.ids = append(k.ids, id)
	}
	return k
}

// set returns the set whose primary key is key i, opened as an application opens it.
func (k *prfKeys) set(t testing.TB, primary int) *prf.Set {
	t.Helper()
	require.NoError(t, k.manager.SetPrimary(k.ids[primary]))
	handle, err := k.manager.Handle()
	require.NoError(t, err)
	var sealed bytes.Buffer
	kek := sealtest.Keyring(t)
	require.NoError(t, handle.Write(keyset.NewBinaryWriter(&sealed), kek))
	set, err := aead.OpenPRF(t.Context(), aead.BytesSource(sealed.Bytes()), kek)
	require.NoError(t, err)
	return set
}

func prfSet(t testing.TB) *prf.Set { t.Helper(); return newPRFKeys(t, 1).set(t, 0) }

// names returns the names that the backing store has.
func names(t testing.TB, m *memorystore.Store) []string {
	t.Helper()
	var all []string
	for name, err := range m.Keys(t.Context(), "") {
		require.NoError(t, err)
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func listed(t testing.TB, s *middleware.Store) ([]string, error) {
	t.Helper()
	var keys []string
	for key, err := range s.Keys(t.Context()) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, nil
}

func TestHiddenKeys(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*prf.Set) middleware.Option{"reversible": middleware.WithHiddenKeys, "one way": middleware.WithOneWayKeys} {
		m, a, set, ctx := memory(t), envelope(t), prfSet(t), t.Context()
		s := sealed(t, m, a, middleware.WithNamespace("ns"), option(set))
		require.NoError(t, s.Check(ctx))
		require.NoError(t, s.Set(ctx, "user:1", "v1", store.WithTags([]string{"tag:a"})))
		require.NoError(t, s.SetMany(ctx, map[string]any{"": "v2", "user:3": int64(3)}))
		written, err := s.SetIfNotExists(ctx, "user:1", "other")
		require.NoError(t, err)
		require.False(t, written)

		// Nothing in the backing store names a key.
		stored := names(t, m)
		require.Len(t, stored, 4)
		for _, n := range stored {
			require.True(t, n == "ns:sealcache.key-check" || strings.HasPrefix(n, "ns:") && len(n) == 3+43, n)
			require.NotContains(t, string(raw(t, m, n)), "user:")
		}

		// Every operation finds its entry.
		got, err := s.Get(ctx, "user:1")
		require.NoError(t, err)
		require.Equal(t, "v1", got)
		got, _, err = s.GetWithTTL(ctx, "")
		require.NoError(t, err)
		require.Equal(t, "v2", got)
		many, err := s.GetMany(ctx, []string{"user:1", "user:3", "user:4"})
		require.NoError(t, err)
		require.Equal(t, map[string]any{"user:1": "v1", "user:3": int64(3)}, many)
		n, err := s.Increment(ctx, "user:3", 4)
		require.NoError(t, err)
		require.Equal(t, int64(7), n)
		keys, err := listed(t, s)
		if name == "one way" {
			require.ErrorIs(t, err, middleware.ErrUnsupported)
			require.Empty(t, keys)
		} else {
			require.NoError(t, err)
			require.Equal(t, []string{"", "user:1", "user:3"}, keys)
		}
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"tag:a"})))
		_, err = s.Get(ctx, "user:1")
		require.ErrorIs(t, err, store.NotFound{})
		got, err = s.GetAndDelete(ctx, "user:3")
		require.NoError(t, err)
		require.Equal(t, int64(7), got)
		require.NoError(t, s.Delete(ctx, ""))
		require.Equal(t, []string{"ns:sealcache.key-check"}, names(t, m))

		// Clear leaves the other namespaces.
		require.NoError(t, s.Set(ctx, "k", "v"))
		require.NoError(t, m.Set(ctx, "other:k", "v"))
		require.NoError(t, s.Clear(ctx))
		require.Equal(t, []string{"ns:sealcache.key-check", "other:k"}, names(t, m))
	}
}

// A value opens only under its pseudonym, its key and the kind of its name.
func TestHiddenValuesAreBound(t *testing.T) {
	t.Parallel()
	m, a, set, ctx := memory(t), keyring(t), prfSet(t), t.Context()
	hidden := sealed(t, m, a, middleware.WithHiddenKeys(set))
	plain := sealed(t, m, a)
	require.NoError(t, hidden.Set(ctx, "k", "v"))
	pseudonym := names(t, m)[0]
	value := raw(t, m, pseudonym)

	_, err := plain.Get(ctx, pseudonym) // by the name that the store knows
	require.ErrorIs(t, err, middleware.ErrUnauthentic)
	sealer, err := middleware.NewSealer(a)
	require.NoError(t, err)
	_, err = sealer.Open(ctx, pseudonym, value)
	require.ErrorIs(t, err, middleware.ErrUnauthentic)

	require.NoError(t, hidden.Set(ctx, "l", "other"))
	for _, n := range names(t, m) { // moved
		require.NoError(t, m.Set(ctx, n, value))
	}
	got, err := hidden.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "v", got)
	_, err = hidden.Get(ctx, "l")
	require.ErrorIs(t, err, middleware.ErrUnauthentic)

	planted, err := sealer.Seal(ctx, pseudonym, "planted") // a key that reads like the pseudonym
	require.NoError(t, err)
	require.NoError(t, m.Set(ctx, pseudonym, planted))
	_, err = hidden.Get(ctx, "k")
	require.ErrorIs(t, err, middleware.ErrUnauthentic)

	// Another PRF key: a miss, and never another value.
	_, err = sealed(t, m, a, middleware.WithHiddenKeys(prfSet(t))).Get(ctx, "k")
	require.ErrorIs(t, err, store.NotFound{})
}

// Keys names everything that it can, and then says what it could not.
func TestKeysOfHiddenEntries(t *testing.T) {
	t.Parallel()
	m, a, set, ctx := memory(t), keyring(t), prfSet(t), t.Context()
	logs := new(sealtest.Logs)
	s := sealed(t, m, a, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(set), middleware.WithLogger(slog.New(slog.NewTextHandler(logs, nil))))
	want := []string{}
	for i := range 250 {
		key := fmt.Sprintf("secret-%03d", i)
		require.NoError(t, s.Set(ctx, key, "v"))
		want = append(want, key)
	}
	keys, err := listed(t, s)
	require.NoError(t, err)
	require.Equal(t, want, keys)

	other := names(t, m)[7]
	altered := raw(t, m, other)
	altered[len(altered)-1] ^= 1
	require.NoError(t, m.Set(ctx, other, altered))
	require.NoError(t, sealed(t, m, a, middleware.WithNamespace("ns")).Set(ctx, "secret-plain", "v"))
	require.NoError(t, sealed(t, m, a, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(prfSet(t))).Set(ctx, "secret-other", "v"))
	keys, err = listed(t, s)
	require.ErrorContains(t, err, "3 entries")
	require.Len(t, keys, 249)
	require.NotContains(t, err.Error(), "secret")
	require.NotContains(t, logs.String(), "secret")
	require.Contains(t, logs.String(), "operation=Keys")
	for range s.Keys(ctx) { // a caller may stop
		break
	}
}

// While the primary PRF key changes, processes before and after the change agree.
func TestChangeOfThePRFKey(t *testing.T) {
	t.Parallel()
	m, a, ctx := memory(t), keyring(t), t.Context()
	k := newPRFKeys(t, 2)
	before := sealed(t, m, a, middleware.WithHiddenKeys(k.set(t, 0)))
	after := sealed(t, m, a, middleware.WithHiddenKeys(k.set(t, 1)))
	both := []*middleware.Store{before, after}
	read := func(s *middleware.Store, key string) any {
		got, err := s.Get(ctx, key)
		require.NoError(t, err)
		many, err := s.GetMany(ctx, []string{key})
		require.NoError(t, err)
		require.Equal(t, map[string]any{key: got}, many)
		return got
	}
	for i, writer := range both {
		for j, reader := range both {
			key := fmt.Sprint("set", i, j)
			require.NoError(t, reader.Set(ctx, key, "old"))
			require.NoError(t, writer.Set(ctx, key, "new"))
			require.Equal(t, "new", read(reader, key))
			require.NoError(t, writer.SetMany(ctx, map[string]any{key: "newer"}))
			require.Equal(t, "newer", read(reader, key))
			written, err := reader.SetIfNotExists(ctx, key, "lock")
			require.NoError(t, err)
			require.False(t, written)
			require.NoError(t, writer.Touch(ctx, key, 0))
			require.Len(t, names(t, m), 1)
			require.NoError(t, writer.Delete(ctx, key))
			_, err = reader.Get(ctx, key)
			require.ErrorIs(t, err, store.NotFound{})

			written, err = writer.SetIfNotExists(ctx, key, "lock")
			require.NoError(t, err)
			require.True(t, written)
			written, err = reader.SetIfNotExists(ctx, key, "lock")
			require.NoError(t, err)
			require.False(t, written)
			require.NoError(t, reader.DeleteMany(ctx, []string{key}))
			require.Empty(t, names(t, m))

			for want := int64(1); want < 5; want++ {
				n, err := both[want%2].Increment(ctx, key, 1)
				require.NoError(t, err)
				require.Equal(t, want, n)
			}
			require.NoError(t, writer.Set(ctx, key, int64(10)))
			n, err := reader.Increment(ctx, key, 1)
			require.NoError(t, err)
			require.Equal(t, int64(11), n)
			got, err := reader.GetAndDelete(ctx, key)
			require.NoError(t, err)
			require.Equal(t, int64(11), got)
			require.Empty(t, names(t, m))

			require.NoError(t, writer.Set(ctx, key, "v", store.WithTags([]string{"t"})))
			require.NoError(t, reader.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})))
			require.Empty(t, names(t, m))
		}
	}
}

// The oldest key is the first in the keyset, with any id.
func TestProcessesAgreeBeforeAndAfterAKeyIsAdded(t *testing.T) {
	t.Parallel()
	for range 8 { // ids are random
		m, a, ctx := memory(t), keyring(t), t.Context()
		k := newPRFKeys(t, 1)
		first := sealed(t, m, a, middleware.WithOneWayKeys(k.set(t, 0)))
		id, err := k.manager.Add(prf.HMACSHA256PRFKeyTemplate())
		require.NoError(t, err)
		k.ids = append(k.ids, id)
		added, made := sealed(t, m, a, middleware.WithOneWayKeys(k.set(t, 0))), sealed(t, m, a, middleware.WithOneWayKeys(k.set(t, 1)))
		for i, creator := range []*middleware.Store{first, added, made} {
			key := fmt.Sprint(i)
			written, err := creator.SetIfNotExists(ctx, key, "lock")
			require.NoError(t, err)
			require.True(t, written)
			for _, s := range []*middleware.Store{first, added, made} {
				written, err := s.SetIfNotExists(ctx, key, "lock")
				require.NoError(t, err)
				require.False(t, written)
			}
		}
	}
}

func TestHiddenKeysOptions(t *testing.T) {
	t.Parallel()
	m, a, set := memory(t), keyring(t), prfSet(t)
	for name, opts := range map[string][]middleware.Option{
		"nil":        {middleware.WithHiddenKeys(nil)},
		"empty":      {middleware.WithOneWayKeys(&prf.Set{})},
		"no primary": {middleware.WithHiddenKeys(&prf.Set{PRFs: set.PRFs, PrimaryID: set.PrimaryID + 1})},
		"nil key":    {middleware.WithHiddenKeys(&prf.Set{PRFs: map[uint32]prf.PRF{1: nil}, PrimaryID: 1})},
		"short":      {middleware.WithHiddenKeys(&prf.Set{PRFs: map[uint32]prf.PRF{1: shortPRF{}}, PrimaryID: 1})},
		"both":       {middleware.WithHiddenKeys(set), middleware.WithOneWayKeys(set)},
		"plaintext":  {middleware.WithHiddenKeys(set), middleware.WithPlaintext(middleware.ReadPlaintext)},
	} {
		_, err := middleware.New(m, a, opts...)
		require.Error(t, err, name)
	}
	for _, o := range []middleware.Option{middleware.WithHiddenKeys(set), middleware.WithOneWayKeys(set), middleware.WithAuthenticatedExpiry()} {
		_, err := middleware.NewSealer(a, o)
		require.ErrorContains(t, err, "a Sealer does not take these options")
	}
	// The order of keys that a set of Tink lost is announced.
	logs := new(sealtest.Logs)
	bare := &prf.Set{PrimaryID: 2, PRFs: map[uint32]prf.PRF{}}
	for id := range uint32(3) {
		bare.PRFs[id] = barePRF{slices.Collect(maps.Values(prfSet(t).PRFs))[0]}
	}
	sealed(t, m, a, middleware.WithHiddenKeys(bare), middleware.WithLogger(slog.New(slog.NewTextHandler(logs, nil))))
	require.Contains(t, logs.String(), "oldest=0")

	s := sealed(t, m, a, middleware.WithHiddenKeys(set))
	require.ErrorIs(t, s.Set(t.Context(), strings.Repeat("k", 9000), "v"), middleware.ErrTooLarge)
	require.ErrorIs(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{strings.Repeat("t", 17000)})), middleware.ErrTooLarge)
	require.Empty(t, names(t, m))
}

type barePRF struct{ f prf.PRF }

func (b barePRF) ComputePRF(in []byte, n uint32) ([]byte, error) { return b.f.ComputePRF(in, n) }

type shortPRF struct{}

func (shortPRF) ComputePRF([]byte, uint32) ([]byte, error) { return make([]byte, 16), nil }
