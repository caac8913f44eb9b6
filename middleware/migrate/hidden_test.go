package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"golang.org/x/sync/errgroup"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
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

// set returns the set with this primary key, opened as an application opens it.
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

// only returns the set with one key alone.
func (k *prfKeys) only(t testing.TB, i int) *prf.Set {
	t.Helper()
	both := k.set(t, i)
	return &prf.Set{PrimaryID: k.ids[i], PRFs: map[uint32]prf.PRF{k.ids[i]: both.PRFs[k.ids[i]]}}
}

// scanned returns the stored names of a namespace on all masters.
func scanned(t testing.TB, rdb redis.UniversalClient, pattern string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	var mu sync.Mutex
	masters := 0
	scan := func(ctx context.Context, node *redis.Client) error {
		all, err := node.Keys(ctx, pattern).Result()
		mu.Lock()
		defer mu.Unlock()
		masters++
		for _, n := range all {
			names[n] = true
		}
		return err
	}
	if c, ok := rdb.(*redis.ClusterClient); ok {
		// After a failover, a node may show the client a layout without masters for a moment.
		sealtest.Eventually(t, func() bool {
			require.NoError(t, c.ForEachMaster(t.Context(), scan))
			return masters > 0
		}, "the client finds no master")
		return names
	}
	require.NoError(t, scan(t.Context(), rdb.(*redis.Client)))
	return names
}

// Reseal moves entries to the primary PRF key, with expiry and tags. The old PRF key can then be disabled.
func TestRenameToANewPRFKey(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 2), t.Context()
		before := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 0)), middleware.WithPadding())
		require.NoError(t, before.Check(ctx))
		const n = 150
		for i := range n {
			opts := []store.Option{store.WithTags([]string{"all", fmt.Sprint("tag", i%3)})}
			if i%2 == 0 {
				opts = append(opts, store.WithExpiration(time.Hour+time.Duration(i)*time.Second))
			}
			require.NoError(t, before.Set(ctx, fmt.Sprint("user:", i), fmt.Sprint("value ", i), opts...))
		}
		_, err := before.Increment(ctx, "counter", 41)
		require.NoError(t, err)
		old := scanned(t, rdb, ns+":*")
		require.Len(t, old, n+2)
		ttl := map[string]time.Duration{}
		for i := range n {
			_, left, err := before.GetWithTTL(ctx, fmt.Sprint("user:", i))
			require.NoError(t, err)
			ttl[fmt.Sprint("user:", i)] = left
		}

		both := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 1)), middleware.WithPadding())
		require.NoError(t, both.Set(ctx, "new", "already"))
		config := migrate.Config{
			Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 1),
			Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
		}
		dry := config
		dry.DryRun = true
		r := run(t, rdb, dry)
		require.EqualValues(t, n+1, r.Renamed)
		require.Equal(t, len(old)+1, len(scanned(t, rdb, ns+":*")))

		r = run(t, rdb, config)
		require.True(t, r.Done(), "%+v", r)
		require.EqualValues(t, n+1, r.Renamed)
		require.EqualValues(t, n+1, r.Written)
		require.GreaterOrEqual(t, r.AlreadyDone, int64(1)) // a name that SCAN returns again counts once more
		require.EqualValues(t, n+2, r.Seen-r.AlreadyDone, "the entries to move, and the key check")
		require.Equal(t, keys.ids[1], r.PRFKey)
		after := scanned(t, rdb, ns+":*")
		require.Len(t, after, n+3)
		for name := range old {
			require.Equal(t, strings.HasSuffix(name, "key-check"), after[name], "an old name is left")
		}
		require.Len(t, scanned(t, rdb, "gocache_tag_"+ns+":*"), 4, "the sets of the old pseudonyms are gone")

		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.only(t, 1)))
		for i := range n {
			key := fmt.Sprint("user:", i)
			got, left, err := app.GetWithTTL(ctx, key)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("value ", i), got)
			if i%2 == 0 {
				require.InDelta(t, ttl[key], left, float64(time.Minute))
			} else {
				require.Zero(t, left)
			}
		}
		counter, err := app.Increment(ctx, "counter", 1)
		require.NoError(t, err)
		require.EqualValues(t, 42, counter)
		require.NoError(t, app.Invalidate(ctx, store.WithInvalidateTags([]string{"tag1"})))
		require.Len(t, scanned(t, rdb, ns+":*"), n+3-n/3)
		require.NoError(t, app.Invalidate(ctx, store.WithInvalidateTags([]string{"all"})))
		require.Len(t, scanned(t, rdb, ns+":*"), 3)

		r = run(t, rdb, config)
		require.True(t, r.Done())
		require.Zero(t, r.Written)
	})
}

// An entry under both names was written by the application under the primary key, or by a run that was killed.
func TestRenameKeepsTheNewerEntry(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 2), t.Context()
		older := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.only(t, 0)))
		newer := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.only(t, 1)))
		require.NoError(t, older.Set(ctx, "k", "old"))
		require.NoError(t, newer.Set(ctx, "k", "new"))
		require.NoError(t, older.Set(ctx, "planted", "old"))
		require.NoError(t, newer.Set(ctx, "planted", "new"))
		names := scanned(t, rdb, ns+":*")
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 1)}

		// An attacker has altered one of the new entries.
		victim := ""
		for name := range names {
			b := stored(t, rdb, name)
			b[len(b)-1] ^= 1
			require.NoError(t, rdb.Set(ctx, name, b, 0).Err())
			if _, err := newer.Get(ctx, "planted"); err != nil {
				victim = name
				break
			}
			b[len(b)-1] ^= 1
			require.NoError(t, rdb.Set(ctx, name, b, 0).Err())
		}
		require.NotEmpty(t, victim)
		r := run(t, rdb, config)
		require.EqualValues(t, 1, r.Conflicts)
		require.EqualValues(t, 1, r.Deleted)
		require.EqualValues(t, 1, r.Unreadable)
		require.Equal(t, "old", value(t, older, "planted"), "an entry that does not open supersedes nothing")
		require.Equal(t, "new", value(t, newer, "k"))
		_, err := older.Get(ctx, "k")
		require.ErrorIs(t, err, store.NotFound{})
	})
}

// Without the key in the value, nothing can be renamed. Such entries keep the older PRF key in use.
func TestOneWayNamesStay(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 2), t.Context()
		before := migratetest.SealedStore(t, rdb, a, ns, middleware.WithOneWayKeys(keys.set(t, 0)))
		require.NoError(t, before.Set(ctx, "token", "session"))
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, OneWayKeys: keys.set(t, 1)}
		r := run(t, rdb, config)
		require.EqualValues(t, 1, r.OneWay)
		require.EqualValues(t, 1, r.NotChanged())
		require.Zero(t, r.Written)
		require.Equal(t, "session", value(t, migratetest.SealedStore(t, rdb, a, ns, middleware.WithOneWayKeys(keys.set(t, 1))), "token"))

		// An entry under the primary PRF key is sealed again in place.
		fresh := sealtest.Envelope(t)
		config.OneWayKeys, config.Keys, config.OldKeys = keys.set(t, 0), fresh, a
		r = run(t, rdb, config)
		require.True(t, r.Done(), "%+v", r)
		require.EqualValues(t, 1, r.Written)
		require.Equal(t, "session", value(t, migratetest.SealedStore(t, rdb, fresh, ns, middleware.WithOneWayKeys(keys.only(t, 0))), "token"))

		for _, wrong := range []migrate.Config{
			{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, OneWayKeys: keys.set(t, 0)},
			{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns, Prefix: "p"}, OneWayKeys: keys.set(t, 0)},
			{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Exclude: []string{"p"}, OneWayKeys: keys.set(t, 0)},
			{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, HiddenKeys: keys.set(t, 0), OneWayKeys: keys.set(t, 0)},
			{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, HiddenKeys: new(prf.Set)},
			{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, To: &migrate.Space{Namespace: ns, Prefix: "p"}, HiddenKeys: keys.set(t, 0)},
		} {
			wrong.Keys = fresh
			_, err := migratetest.Unproven(ctx, rdb, wrong)
			require.ErrorIs(t, err, migrate.ErrConfig)
		}
		// Filters that meet such a value cannot decide.
		_, err := migratetest.Unproven(ctx, rdb, migrate.Config{
			Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Exclude: []string{"p"}, Keys: fresh, HiddenKeys: keys.set(t, 0),
		})
		require.ErrorIs(t, err, migrate.ErrConfig)
	})
}

// A run does not change the namespace or the prefix of entries that may be under two PRF keys.
func TestMoveWithTwoPRFKeys(t *testing.T) {
	t.Parallel()
	rdb, keys := redistest.Start(t).Client(t), newPRFKeys(t, 2)
	for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal, migrate.Unseal} {
		config := migrate.Config{Operation: o, From: migrate.Space{Namespace: "ns"}, To: &migrate.Space{Namespace: "new"}, Keys: sealtest.Envelope(t), HiddenKeys: keys.set(t, 1)}
		_, err := migratetest.Unproven(t.Context(), rdb, config)
		require.ErrorIs(t, err, migrate.ErrConfig)
		require.ErrorContains(t, err, "several enabled keys")
		config.HiddenKeys = keys.only(t, 1)
		_, err = migratetest.Unproven(t.Context(), rdb, config)
		require.NoError(t, err)
	}
}

// A name under a PRF key that was not given stays, also where another key has the same id.
func TestUnknownPRFKeysAreLeft(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, other, ctx := sealtest.Envelope(t), newPRFKeys(t, 1), newPRFKeys(t, 2), t.Context()
		s := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 0)))
		require.NoError(t, s.Set(ctx, "k", "v"))
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: other.set(t, 0)}
		posing := other.set(t, 0)
		posing.PRFs[keys.ids[0]] = posing.PRFs[other.ids[1]]
		for _, set := range []*prf.Set{other.set(t, 0), posing} {
			config.HiddenKeys = set
			r := run(t, rdb, config)
			require.EqualValues(t, 1, r.UnknownPRFKey)
			require.False(t, r.Done())
			require.Equal(t, "v", value(t, s, "k"))
		}
	})
}

// Seal hides entries under plain names, plaintext and sealed ones, with expiry and tags. Unseal restores them.
func TestSealHidesPlainNames(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 1), t.Context()
		plain := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.WritePlaintext))
		visible := migratetest.SealedStore(t, rdb, a, ns)
		tagged := func(tag string) []store.Option {
			return []store.Option{store.WithTags([]string{tag}), store.WithExpiration(time.Hour)}
		}
		require.NoError(t, plain.Set(ctx, "user:plaintext", "p", tagged("tag")...))
		require.NoError(t, visible.Set(ctx, "user:sealed", "s", tagged("tag")...))
		require.NoError(t, visible.Set(ctx, "user:forever", "f"))
		digest := strings.Repeat("a", 42) + "A" // the form of a pseudonym: base64 of 32 bytes
		require.NoError(t, plain.Set(ctx, digest, "d"))
		require.NoError(t, visible.Set(ctx, "lock:1", "l"))
		require.NoError(t, visible.Set(ctx, strings.Repeat("long", 3000), "too long to hide"))
		at := expiry(t, rdb, ns+":user:plaintext")

		config := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 0), As: migrate.AsString,
			Exclude: []string{"lock:"},
		}
		r := run(t, rdb, config)
		require.EqualValues(t, 4, r.Renamed)
		require.EqualValues(t, 1, r.Excluded)
		require.EqualValues(t, 1, r.TooLarge)
		require.EqualValues(t, 1, r.NotChanged())
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 0)))
		for key, want := range map[string]string{"user:plaintext": "p", "user:sealed": "s", "user:forever": "f", digest: "d"} {
			require.Equal(t, want, value(t, app, key))
			require.Zero(t, rdb.Exists(ctx, ns+":"+key).Val())
		}
		names, err := audit.Pseudonyms(ns, "user:plaintext", keys.set(t, 0))
		require.NoError(t, err)
		require.Equal(t, at, expiry(t, rdb, ns+":"+names[0]))
		require.Empty(t, scanned(t, rdb, "gocache_tag_"+ns+":tag"), "the plain set is gone")
		require.NoError(t, app.Invalidate(ctx, store.WithInvalidateTags([]string{"tag"})))
		for _, key := range []string{"user:plaintext", "user:sealed"} {
			_, err := app.Get(ctx, key)
			require.ErrorIs(t, err, store.NotFound{}, key)
		}
		require.Equal(t, "f", value(t, app, "user:forever"))

		// Back again, with a sealed end that the plaintext must not outlive.
		expiring := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 0)), middleware.WithAuthenticatedExpiry())
		require.NoError(t, expiring.Set(ctx, "user:expiring", "e", store.WithExpiration(time.Hour)))
		names, err = audit.Pseudonyms(ns, "user:expiring", keys.set(t, 0))
		require.NoError(t, err)
		require.NoError(t, rdb.Persist(ctx, ns+":"+names[0]).Err())
		config.Operation, config.As = migrate.Unseal, ""
		r = run(t, rdb, config)
		require.EqualValues(t, 4, r.Written, "%+v", r)
		for key, want := range map[string]string{"user:expiring": "e", "user:forever": "f", digest: "d"} {
			require.Equal(t, want, rdb.Get(ctx, ns+":"+key).Val())
		}
		require.Positive(t, expiry(t, rdb, ns+":user:expiring"))
		require.EqualValues(t, -1, expiry(t, rdb, ns+":user:forever"))
		require.Zero(t, run(t, rdb, config).Written, "plaintext values are not written again")
	})
}

// Seal seals the tags of plaintext entries, which only their sets name. So Touch extends them, a change of the PRF key and
// Unseal keep them, and the store shows none of them.
func TestSealSealsTheTagsOfPlaintext(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 2), t.Context()
		plain := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.WritePlaintext))
		visible := migratetest.SealedStore(t, rdb, a, ns)
		token := strings.Repeat("t", 42) + "A" // the form of a pseudonym
		const n = 7
		key := func(i int) string { return fmt.Sprint("planted-key-", i) }
		for i := range n {
			tags := []string{"planted-all", fmt.Sprint("planted-tag-", i%2)}
			require.NoError(t, plain.Set(ctx, key(i), fmt.Sprint("v", i), store.WithTags(tags), store.WithExpiration(time.Hour), store.WithTagsTTL(time.Hour)))
		}
		require.NoError(t, plain.Set(ctx, token, "t", store.WithTags([]string{"planted-all"}), store.WithExpiration(time.Hour), store.WithTagsTTL(time.Hour)))
		require.NoError(t, visible.Set(ctx, "planted-sealed", "s", store.WithTags([]string{"planted-all"}), store.WithExpiration(time.Hour), store.WithTagsTTL(time.Hour)))
		long := strings.Repeat("planted-long", 1400)
		require.NoError(t, plain.Set(ctx, "too-many", "v", store.WithTags([]string{long})))

		config := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 0), As: migrate.AsString,
		}
		r := run(t, rdb, config)
		require.EqualValues(t, n+3, r.Renamed, "%+v", r.Counts)
		require.EqualValues(t, 2*n+3, r.TagMembers)
		require.EqualValues(t, 2*n+2, r.TagsSealed)
		require.EqualValues(t, 1, r.TagsNotSealed)
		require.EqualValues(t, 1, r.NotChanged())
		require.False(t, r.Done(), "the caller learns of the tag that is not sealed")
		for name := range scanned(t, rdb, "*"+ns+":*") {
			require.NotContains(t, name, "planted")
		}
		require.True(t, run(t, rdb, config).Done(), "nothing is left to do")

		// Touch lets the sets live as long as the entry.
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 0)))
		require.NoError(t, app.Touch(ctx, key(0), 900*time.Hour))
		living := 0
		for set := range scanned(t, rdb, "gocache_tag_"+ns+":*") {
			if expiry(t, rdb, set) > time.Now().Add(899*time.Hour).UnixMilli() {
				living++
			}
		}
		require.Equal(t, 2, living, "the sets of both tags")

		// A change of the PRF key keeps them.
		r = run(t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 1)})
		require.EqualValues(t, n+3, r.Renamed)
		newest := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.only(t, 1)))
		require.NoError(t, newest.Invalidate(ctx, store.WithInvalidateTags([]string{"planted-tag-1"})))
		for i := range n {
			_, err := newest.Get(ctx, key(i))
			require.Equal(t, i%2 == 1, err != nil, "%d: %v", i, err)
		}
		// So does the way back.
		r = run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.only(t, 1)})
		require.True(t, r.Done(), "%+v", r)
		require.Equal(t, "t", rdb.Get(ctx, ns+":"+token).Val())
		require.NoError(t, plain.Invalidate(ctx, store.WithInvalidateTags([]string{"planted-all"})))
		left := scanned(t, rdb, ns+":*")
		require.Len(t, left, 1)
		require.True(t, left[ns+":too-many"])
	})
}

// A run that ends after any of its steps, and is started again, seals all tags.
func TestSealOfTagsGoesOn(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, set, ctx := sealtest.Envelope(t), newPRFKeys(t, 1).set(t, 0), t.Context()
		plain := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.WritePlaintext))
		const n = 20
		for i := range n {
			require.NoError(t, plain.Set(ctx, fmt.Sprint("k", i), "v", store.WithTags([]string{"all", fmt.Sprint("tag", i%2)})))
		}
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: set}
		cut := &cutting{}
		rdb.AddHook(cut)
		for steps := int64(1); ; steps++ {
			limited, cancel := context.WithCancel(small(ctx, 3))
			cut.after(steps, cancel)
			r, err := migratetest.Unproven(limited, rdb, config)
			cancel()
			if err == nil {
				require.True(t, r.Done(), "%+v", r)
				break
			}
			require.Less(t, steps, int64(500))
		}
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(set))
		r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: set})
		require.EqualValues(t, n, r.Written)
		require.NoError(t, app.Invalidate(ctx, store.WithInvalidateTags([]string{"all"})))
		require.NoError(t, plain.Invalidate(ctx, store.WithInvalidateTags([]string{"tag0", "tag1"})))
		require.Empty(t, scanned(t, rdb, ns+":k*"), "the tags came back from the values")
	})
}

// cutting ends a context after some pipelines.
type cutting struct {
	mu   sync.Mutex
	left int64
	cut  context.CancelFunc
}

func (c *cutting) after(pipelines int64, cut context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.cut = pipelines, cut
}

func (c *cutting) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (c *cutting) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *cutting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.left--; c.left == 0 {
			c.cut()
		}
		return err
	}
}

// While the application increments counters, creates locks and deletes entries, a run loses nothing and revives nothing.
func TestRenameUnderLiveWriters(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 2), t.Context()
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 1)))
		const counters, writers, increments = 8, 4, 60
		set := keys.set(t, 1)
		stop := make(chan struct{})
		var runs sync.WaitGroup
		runs.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := migratetest.Unproven(ctx, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: set}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		var work errgroup.Group
		_, clustered := rdb.(*redis.ClusterClient)
		var moved atomic.Int64 // locks that a run has given their new names before SetIfNotExists looked for those
		for w := range writers {
			s := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(set))
			work.Go(func() error {
				for i := range increments {
					if _, err := s.Increment(ctx, fmt.Sprint("counter", i%counters), 1); err != nil {
						return err
					}
					once := fmt.Sprint("once", w, i)
					won, err := s.SetIfNotExists(ctx, once, "v")
					if err != nil {
						return err
					}
					if !won { // no other client sets it, so only a move of the created entry explains the answer
						moved.Add(1)
						got, err := s.Get(ctx, once)
						absent := clustered && errors.Is(err, store.NotFound{}) // the writer and the run have each removed one of both
						if !absent && (err != nil || got != "v") {
							return fmt.Errorf("SetIfNotExists returned false, but the entry is %v, %w", got, err)
						}
					}
					if err := s.Delete(ctx, once); err != nil {
						return err
					}
				}
				return nil
			})
		}
		err := work.Wait()
		close(stop)
		runs.Wait()
		require.NoError(t, err)
		require.Less(t, moved.Load(), int64(writers*increments/2), "it is rare")
		r := run(t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 1)})
		require.True(t, r.Done(), "%+v", r)
		sum := int64(0)
		for i := range counters {
			n, err := app.Increment(ctx, fmt.Sprint("counter", i), 0)
			require.NoError(t, err)
			sum += n
		}
		require.EqualValues(t, writers*increments, sum)
		keysLeft := 0
		for _, err := range app.Keys(ctx) {
			require.NoError(t, err)
			keysLeft++
		}
		require.Equal(t, counters, keysLeft, "deleted entries are back")
	})
}
