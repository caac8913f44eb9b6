package middleware_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// interruption calls do before the first command that names an entry.
type interruption struct {
	name string
	once sync.Once
	do   func()
}

func (i *interruption) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *interruption) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		i.look(cmd)
		return next(ctx, cmd)
	}
}

func (i *interruption) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			i.look(cmd)
		}
		return next(ctx, cmds)
	}
}

func (i *interruption) look(cmd redis.Cmder) {
	if slices.ContainsFunc(cmd.Args(), func(a any) bool { return fmt.Sprint(a) == i.name }) {
		i.once.Do(i.do)
	}
}

// With two PRF keys, an operation looks at two names one after the other. Another process moves the entry in between.
func TestAnEntryMovesBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	server, a, keys := redistest.Start(t), envelope(t), newPRFKeys(t, 2)
	set := keys.set(t, 1)
	older := &prf.Set{PrimaryID: keys.ids[0], PRFs: map[uint32]prf.PRF{keys.ids[0]: set.PRFs[keys.ids[0]]}}
	ctx := within(t, patience)
	other := sealed(t, overRedis(t, server), a, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(set))
	before := sealed(t, overRedis(t, server), a, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(older))
	for name, c := range map[string]struct {
		old     bool // there is an entry under the older key
		operate func(s *middleware.Store) error
	}{
		"Get": {true, func(s *middleware.Store) error {
			got, err := s.Get(ctx, "Get")
			require.Equal(t, "set", got)
			return err
		}},
		"GetMany": {true, func(s *middleware.Store) error {
			got, err := s.GetMany(ctx, []string{"GetMany"})
			require.Equal(t, map[string]any{"GetMany": "set"}, got)
			return err
		}},
		"SetIfNotExists": {false, func(s *middleware.Store) error {
			won, err := s.SetIfNotExists(ctx, "SetIfNotExists", "created")
			require.False(t, won, "another process has set it")
			return err
		}},
		"Update": {false, func(s *middleware.Store) error {
			return s.Update(ctx, "Update", func(old any, found bool) (any, error) {
				if !found {
					return "created", nil
				}
				return old, nil
			})
		}},
	} {
		names, err := audit.Pseudonyms("ns", name, set)
		require.NoError(t, err)
		if c.old {
			require.NoError(t, before.Set(ctx, name, "old"))
		}
		client := server.Client(t)
		client.AddHook(&interruption{name: "ns:" + names[1], do: func() { require.NoError(t, other.Set(ctx, name, "set")) }})
		backing, err := redisstore.New(client)
		require.NoError(t, err)
		require.NoError(t, c.operate(sealed(t, backing, a, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(set))), name)
		got, err := other.Get(ctx, name)
		require.NoError(t, err, name)
		require.Equal(t, "set", got, name)
		require.Zero(t, client.Exists(ctx, "ns:"+names[1]).Val(), "%s: there are two entries", name)
	}
}

// A refused entry under the primary PRF key counts as absent for SetIfNotExists, as for Get, Increment and Update.
func TestRefusedEntriesUnderAnotherPRFKey(t *testing.T) {
	t.Parallel()
	m, a, keys := memory(t), keyring(t), newPRFKeys(t, 2)
	open := func(opts ...middleware.Option) *middleware.Store {
		return sealed(t, m, a, append(opts, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(keys.set(t, 1)))...)
	}
	strict, lenient := open(), open(middleware.WithMissOnOpenFailure())
	require.NoError(t, strict.Set(t.Context(), "k", "v"))
	written, err := lenient.SetIfNotExists(t.Context(), "k", "lock")
	require.NoError(t, err)
	require.False(t, written, "a sound entry is taken")
	var names []string
	for name, err := range m.Keys(t.Context(), "ns:") {
		require.NoError(t, err)
		names = append(names, name)
	}
	require.Len(t, names, 1)
	require.NoError(t, m.SetBytes(t.Context(), names[0], []byte("planted")))
	written, err = strict.SetIfNotExists(t.Context(), "k", "strict")
	require.NoError(t, err)
	require.False(t, written)
	for _, want := range []bool{true, false} {
		written, err = lenient.SetIfNotExists(t.Context(), "k", "lock", store.WithTags([]string{"tag"}))
		require.NoError(t, err)
		require.Equal(t, want, written)
	}
	got, err := lenient.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "lock", got)
	require.NoError(t, lenient.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
	_, err = lenient.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})
}

// Everything works with hidden names in a Cluster, where the names of one key under two PRF keys are on different nodes.
func TestHiddenNamesInACluster(t *testing.T) {
	t.Parallel()
	cluster, a, keys := redistest.StartCluster(t), envelope(t), newPRFKeys(t, 2)
	ctx := within(t, patience)
	open := func(primary int) *middleware.Store {
		backing, err := redisstore.New(cluster.Client(t))
		require.NoError(t, err)
		return sealed(t, backing, a, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(keys.set(t, primary)))
	}
	older, s := open(0), open(1)
	items, names := map[string]any{}, []string{}
	for i := range 60 {
		key := fmt.Sprint("key ", i)
		items[key], names = fmt.Sprint("value ", i), append(names, key)
	}
	slices.Sort(names)
	require.NoError(t, older.SetMany(ctx, items, store.WithTags([]string{"all"}), store.WithExpiration(time.Hour)))
	for i, key := range names[:30] { // moves them
		require.NoError(t, s.Set(ctx, key, items[key], store.WithTags([]string{"all", fmt.Sprint("tag", i%2)})))
	}
	got, err := s.GetMany(ctx, names)
	require.NoError(t, err)
	require.Equal(t, items, got)
	all, err := listed(t, s)
	require.NoError(t, err)
	require.Equal(t, names, all, "each once")

	for _, at := range []*middleware.Store{older, s, older} {
		_, err := at.Increment(ctx, "counter", 1)
		require.NoError(t, err)
	}
	n, err := s.Increment(ctx, "counter", 0)
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	won, err := older.SetIfNotExists(ctx, "lock", "a")
	require.NoError(t, err)
	require.True(t, won)
	won, err = s.SetIfNotExists(ctx, "lock", "b")
	require.NoError(t, err)
	require.False(t, won)
	require.NoError(t, s.Update(ctx, names[40], func(old any, found bool) (any, error) { return fmt.Sprint(old, found), nil }))
	require.NoError(t, s.Touch(ctx, names[40], 2*time.Hour))
	value, ttl, err := older.GetWithTTL(ctx, names[40])
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(items[names[40]], true), value)
	require.Greater(t, ttl, time.Hour)
	_, err = s.GetAndDelete(ctx, names[41])
	require.NoError(t, err)
	_, err = older.Get(ctx, names[41])
	require.ErrorIs(t, err, store.NotFound{})
	require.NoError(t, s.DeleteMany(ctx, names[42:50]))
	got, err = older.GetMany(ctx, names[42:50])
	require.NoError(t, err)
	require.Empty(t, got)

	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"tag1"})))
	got, err = s.GetMany(ctx, names[:30])
	require.NoError(t, err)
	require.Len(t, got, 15)
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"all"})))
	got, err = s.GetMany(ctx, names)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, s.Clear(ctx))
	all, err = listed(t, s)
	require.NoError(t, err)
	require.Empty(t, all)
}

// tagRecorder records the tags that it is given.
type tagRecorder struct {
	store.StoreInterface
	set, invalidated []string
}

func (r *tagRecorder) Set(ctx context.Context, key, value any, options ...store.Option) error {
	r.set = store.ApplyOptions(options...).Tags
	return r.StoreInterface.Set(ctx, key, value, options...)
}

func (r *tagRecorder) Invalidate(_ context.Context, options ...store.InvalidateOption) error {
	r.invalidated = store.ApplyInvalidateOptions(options...).Tags
	return nil
}

// A migration tags the new name of an entry, and then moves it there. Invalidate reads the tags of new names last, so that it finds
// the entry under one of its names.
func TestInvalidateReadsThePrimaryKeyLast(t *testing.T) {
	t.Parallel()
	backing := &tagRecorder{StoreInterface: memory(t)}
	s := sealed(t, backing, keyring(t), middleware.WithNamespace("ns"), middleware.WithHiddenKeys(newPRFKeys(t, 2).set(t, 1)))
	require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"tag"})))
	require.Len(t, backing.set, 1)
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
	require.Len(t, backing.invalidated, 2)
	require.Equal(t, backing.set[0], backing.invalidated[1])
}
