package migrate_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// Plaintext entries with tags move into a namespace, sealed: values, expiries and invalidation come along; old entries go
// when asked, and not before.
func TestMoveIntoNamespace(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Envelope(t)
		plaintext, err := redisstore.New(rdb)
		require.NoError(t, err)
		const n = 120
		expiries := map[int]int64{}
		for i := range n {
			opts := []store.Option{store.WithTags([]string{ns + "-all", ns + fmt.Sprint("-mod", i%2)})}
			if i%3 == 0 {
				opts = append(opts, store.WithExpiration(time.Hour+time.Duration(i)*time.Millisecond))
			}
			require.NoError(t, plaintext.Set(ctx, fmt.Sprintf("%s-user:%d", ns, i), fmt.Sprint("v", i), opts...))
			expiries[i] = expiry(t, rdb, fmt.Sprintf("%s-user:%d", ns, i))
		}
		require.NoError(t, plaintext.Set(ctx, ns+"-untouched", "v", store.WithTags([]string{ns + "-all"})))
		config := migrate.Config{
			Operation: migrate.Seal, Keys: a,
			From: migrate.Space{Prefix: ns + "-user:"},
			To:   &migrate.Space{Namespace: ns, Prefix: "user:"},
		}
		dry := config
		dry.DryRun = true
		r := run(t, rdb, dry)
		require.EqualValues(t, n, r.Written)
		require.EqualValues(t, 3, r.TagSets)
		require.EqualValues(t, 2*n, r.TagMembers)
		require.Zero(t, rdb.Exists(ctx, ns+":user:1").Val())

		r = run(t, rdb, config)
		require.True(t, r.Done(), "%+v", r)
		require.EqualValues(t, n, r.Written)
		require.Zero(t, r.Deleted)
		app := migratetest.SealedStore(t, rdb, a, ns)
		for i := range n {
			require.Equal(t, []byte(fmt.Sprint("v", i)), value(t, app, fmt.Sprint("user:", i)))
			require.Equal(t, expiries[i], expiry(t, rdb, fmt.Sprintf("%s:user:%d", ns, i)))
			require.Equal(t, fmt.Sprint("v", i), string(stored(t, rdb, fmt.Sprintf("%s-user:%d", ns, i))), "the old one stays")
		}

		// The second run deletes. One old entry changes before it: the entry and its value must stay.
		require.NoError(t, plaintext.Set(ctx, ns+"-user:0", "changed"))
		config.DeleteOld = true
		r = run(t, rdb, config)
		require.EqualValues(t, n-1, r.Deleted)
		require.EqualValues(t, n-1, r.AlreadyDone)
		require.EqualValues(t, 1, r.Conflicts)
		require.False(t, r.Done())
		require.Equal(t, "changed", string(stored(t, rdb, ns+"-user:0")))
		require.Equal(t, []byte("v0"), value(t, app, "user:0"))
		members, err := rdb.SMembers(ctx, "gocache_tag_"+ns+"-all").Result()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{ns + "-untouched", ns + "-user:0"}, members)

		// The tags work under the new names.
		require.NoError(t, app.Invalidate(ctx, store.WithInvalidateTags([]string{ns + "-mod1"})))
		for i := range n {
			_, err := app.Get(ctx, fmt.Sprint("user:", i))
			if i%2 == 1 {
				require.ErrorIs(t, err, store.NotFound{})
			} else {
				require.NoError(t, err)
			}
		}
	})
}

// From one namespace to another, under another key; and back to plaintext, with other names.
func TestMoveBetweenNamespaces(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a, b := sealtest.Keyring(t), sealtest.Envelope(t)
		one, two := migratetest.SealedStore(t, rdb, a, ns), migratetest.SealedStore(t, rdb, b, ns+"-2")
		for i := range 40 {
			require.NoError(t, one.Set(ctx, fmt.Sprint(i), int64(i), store.WithExpiration(time.Hour), store.WithTags([]string{"t"})))
		}
		require.NoError(t, rdb.Set(ctx, ns+":plaintext", "v", 0).Err())
		r := run(t, rdb, migrate.Config{
			Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, To: &migrate.Space{Namespace: ns + "-2"},
			Keys: b, OldKeys: a, DeleteOld: true, IgnoreUnreadable: true,
		})
		require.EqualValues(t, 40, r.Written)
		require.EqualValues(t, 40, r.Deleted)
		require.EqualValues(t, 1, r.Plaintext, "in plaintext, left where it is")
		for i := range 40 {
			require.Equal(t, int64(i), value(t, two, fmt.Sprint(i)))
		}
		require.Zero(t, rdb.Exists(ctx, "gocache_tag_"+ns+":t").Val(), "the old tag set is empty, and so gone")

		r = run(t, rdb, migrate.Config{
			Operation: migrate.Unseal, From: migrate.Space{Namespace: ns + "-2"}, To: &migrate.Space{Prefix: ns + "-plain:"}, Keys: b,
		})
		require.EqualValues(t, 40, r.Written)
		require.Equal(t, "17", string(stored(t, rdb, ns+"-plain:17")))
		require.EqualValues(t, 40, rdb.SCard(ctx, "gocache_tag_t").Val())
		require.NoError(t, rdb.Del(ctx, "gocache_tag_t").Err())
	})
}

// Only the border between namespace and key moves: the names stay, and values are bound again where they are.
func TestRebindInPlace(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		without := migratetest.SealedStore(t, rdb, a, "")
		require.NoError(t, without.Set(ctx, ns+":sealed", "v", store.WithExpiration(time.Hour)))
		require.NoError(t, rdb.Set(ctx, ns+":plaintext", "w", 0).Err())
		with := migratetest.SealedStore(t, rdb, a, ns)
		_, err := with.Get(ctx, "sealed")
		require.ErrorIs(t, err, middleware.ErrUnauthentic)
		config := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Prefix: ns + ":"}, To: &migrate.Space{Namespace: ns}, Keys: a,
		}
		r := run(t, rdb, config)
		require.EqualValues(t, 2, r.Written)
		require.True(t, r.Done())
		require.Equal(t, "v", value(t, with, "sealed"))
		require.Equal(t, []byte("w"), value(t, with, "plaintext"))
		require.Positive(t, expiry(t, rdb, ns+":sealed"))
		r = run(t, rdb, config)
		require.Zero(t, r.Written)
		require.EqualValues(t, 2, r.AlreadyDone)
	})
}

// Between a run that copies and one that deletes, the expiry of an old entry may have changed, or that of its copy. The old
// one stays then: a copy would live too long or not long enough.
func TestExpiryChangesBeforeOldIsDeleted(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		for i, ttl := range []time.Duration{0, time.Hour, time.Minute, time.Hour, time.Hour} {
			require.NoError(t, rdb.Set(ctx, fmt.Sprintf("%s-old:%d", ns, i), "v", ttl).Err())
		}
		for how, op := range map[string]migrate.Operation{"sealed": migrate.Seal, "plaintext": migrate.Unseal} {
			config := migrate.Config{
				Operation: op, From: migrate.Space{Prefix: ns + "-old:"}, To: &migrate.Space{Namespace: ns + how}, Keys: sealtest.Keyring(t),
			}
			require.True(t, run(t, rdb, config).Done())
			require.NoError(t, rdb.Expire(ctx, ns+"-old:0", time.Minute).Err())
			require.NoError(t, rdb.Persist(ctx, ns+"-old:1").Err())
			require.NoError(t, rdb.Expire(ctx, ns+"-old:2", time.Hour).Err())
			require.NoError(t, rdb.Persist(ctx, ns+how+":3").Err())
			config.DeleteOld = true
			for _, config.DryRun = range []bool{true, false} {
				r := run(t, rdb, config)
				require.EqualValues(t, 4, r.Conflicts, how)
				require.EqualValues(t, 1, r.Deleted, how)
				require.False(t, r.Done())
			}
			for i := range 4 {
				require.EqualValues(t, 1, rdb.Exists(ctx, fmt.Sprintf("%s-old:%d", ns, i)).Val())
			}
			require.NoError(t, rdb.Set(ctx, ns+"-old:4", "v", time.Hour).Err())
			require.NoError(t, rdb.Persist(ctx, ns+"-old:0").Err())
			require.NoError(t, rdb.Expire(ctx, ns+"-old:1", time.Hour).Err())
			require.NoError(t, rdb.Expire(ctx, ns+"-old:2", time.Minute).Err())
		}
	})
}

// A dry run of a move says what the run then does: it looks at the new names, too.
func TestDryRunOfMove(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		from, to := migrate.Space{Prefix: ns + "-old:"}, migrate.Space{Namespace: ns}
		config := migrate.Config{Operation: migrate.Seal, From: from, To: &to, Keys: a}
		for i := range 3 {
			require.NoError(t, rdb.Set(ctx, fmt.Sprintf("%s-old:%d", ns, i), "v", 0).Err())
		}
		run(t, rdb, config) // these are there already
		for i := 3; i < 10; i++ {
			require.NoError(t, rdb.Set(ctx, fmt.Sprintf("%s-old:%d", ns, i), "v", 0).Err())
		}
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns).Set(ctx, "3", "something else"))
		require.NoError(t, rdb.LPush(ctx, ns+":4", "x").Err())
		config.DeleteOld, config.DryRun = true, true
		predicted := run(t, rdb, config)
		require.EqualValues(t, 10, rdb.Exists(ctx, fmt.Sprintf("%s-old:0", ns)).Val()*10, "nothing is deleted")
		require.Contains(t, text(t, predicted), "old entries would be deleted")
		config.DryRun = false
		done := run(t, rdb, config)
		require.EqualValues(t, 5, done.Written)
		require.EqualValues(t, 3, done.AlreadyDone)
		require.EqualValues(t, 2, done.Conflicts)
		require.EqualValues(t, 8, done.Deleted)
		require.Equal(t, done.Counts, predicted.Counts)
	})
}

// When a namespace is given to names that had its form already, tags come along. Entries are invalidated by the tags that
// the application uses now. This holds for former plaintext and for values that are bound again.
func TestTagsFollowTheNamespace(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		plaintext, err := redisstore.New(rdb)
		require.NoError(t, err)
		for how, c := range map[string]struct {
			before store.StoreInterface
			config migrate.Config
		}{
			"seal":   {plaintext, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}}},
			"bind":   {plaintext, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Prefix: ns + ":"}, To: &migrate.Space{Namespace: ns}}},
			"rebind": {migratetest.SealedStore(t, rdb, a, ""), migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Prefix: ns + ":"}, To: &migrate.Space{Namespace: ns}}},
		} {
			tag := ns + "-" + how
			require.NoError(t, c.before.Set(ctx, ns+":k", "v", store.WithTags([]string{tag}), store.WithExpiration(time.Hour)))
			require.NoError(t, c.before.Set(ctx, ns+"-other", "v", store.WithTags([]string{tag})))
			app := migratetest.SealedStore(t, rdb, a, ns)
			c.config.Keys = a
			dry := c.config
			dry.DryRun = true
			require.EqualValues(t, 1, run(t, rdb, dry).TagSets, how)
			require.Zero(t, rdb.Exists(ctx, "gocache_tag_"+ns+":"+tag).Val(), how)
			r := run(t, rdb, c.config)
			require.EqualValues(t, 1, r.Written, how)
			require.EqualValues(t, 1, r.TagSets, how)
			require.EqualValues(t, 1, r.TagMembers, how)
			require.Equal(t, []string{ns + ":k"}, rdb.SMembers(ctx, "gocache_tag_"+ns+":"+tag).Val(), how)
			require.EqualValues(t, 2, rdb.SCard(ctx, "gocache_tag_"+tag).Val(), "who has no namespace yet goes on with it")
			require.NoError(t, app.Set(ctx, "more", "v", store.WithTags([]string{tag})))
			run(t, rdb, c.config)
			require.Zero(t, rdb.Exists(ctx, "gocache_tag_"+ns+":"+ns+":"+tag).Val(), "its own tags stay as they are")
			require.NoError(t, app.Invalidate(ctx, store.WithInvalidateTags([]string{tag})))
			_, err = app.Get(ctx, "k")
			require.ErrorIs(t, err, store.NotFound{}, how)
			require.NoError(t, rdb.Del(ctx, ns+"-other").Err())
			require.NoError(t, rdb.Del(ctx, "gocache_tag_"+tag).Err())
		}
	})
}

// A run ends with an error if another type has the name of a new set, because the tag would lose its entries. A key whose name
// only looks like that of a set is left alone.
func TestTagSetsOfAnotherType(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		require.NoError(t, rdb.Set(ctx, ns+":k", "v", 0).Err())
		require.NoError(t, rdb.SAdd(ctx, "gocache_tag_"+ns, ns+":k").Err())
		require.NoError(t, rdb.Set(ctx, "gocache_tag_"+ns+"text", "v", 0).Err())
		taken := "gocache_tag_" + ns + ":" + ns
		require.NoError(t, rdb.HSet(ctx, taken, "a", "b").Err())
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: sealtest.Keyring(t), AllowUnproven: true}
		dry := config
		dry.DryRun = true
		for _, c := range []migrate.Config{dry, config} {
			_, err := migrate.Run(ctx, rdb, c)
			require.ErrorContains(t, err, `that starts with "gocache_tag_`+ns+`:" is not a set (find it with SCAN and TYPE, and delete it)`)
		}
		require.NoError(t, rdb.Del(ctx, taken).Err())
		require.EqualValues(t, 1, run(t, rdb, config).TagSets)
		require.Equal(t, []string{ns + ":k"}, rdb.SMembers(ctx, taken).Val())
		for _, name := range []string{"gocache_tag_" + ns, "gocache_tag_" + ns + "text", taken} { // they may be on several masters
			require.NoError(t, rdb.Del(ctx, name).Err())
		}
	})
}

// A name that is taken by something else is not overwritten, and the old entry is not deleted.
func TestMoveConflicts(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		require.NoError(t, rdb.Set(ctx, ns+"-old:k", "old", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+"-old:list", "old", 0).Err())
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns).Set(ctx, "k", "newer"))
		require.NoError(t, rdb.LPush(ctx, ns+":list", "x").Err())
		r := run(t, rdb, migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Prefix: ns + "-old:"}, To: &migrate.Space{Namespace: ns}, Keys: a, DeleteOld: true,
		})
		require.EqualValues(t, 2, r.Conflicts+r.Written+r.AlreadyDone)
		require.GreaterOrEqual(t, r.Conflicts, int64(1))
		require.Zero(t, r.Deleted)
		require.Equal(t, "newer", value(t, migratetest.SealedStore(t, rdb, a, ns), "k"))
		require.EqualValues(t, 2, rdb.Exists(ctx, ns+"-old:k").Val()+rdb.Exists(ctx, ns+"-old:list").Val())
	})
}

// A destination within the source is not moved again and again.
func TestMoveDoesNotFollowItself(t *testing.T) {
	t.Parallel()
	opts := shared.Single.ClientOptions()
	opts.DB = 151
	rdb := redis.NewClient(opts)
	t.Cleanup(func() { _ = rdb.Close() })
	a := sealtest.Keyring(t)
	for i := range 500 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint("k", i), "v", 0).Err())
	}
	config := migrate.Config{Operation: migrate.Seal, To: &migrate.Space{Namespace: "ns"}, Keys: a, DeleteOld: true, IgnoreUnreadable: true}
	r := runBy(small(t.Context(), 10), t, rdb, config)
	require.EqualValues(t, 500, r.Written)
	require.EqualValues(t, 500+1, rdb.DBSize(t.Context()).Val(), "and the record of the run")
	require.Equal(t, []byte("v"), value(t, migratetest.SealedStore(t, rdb, a, "ns"), "k7"))

	require.NoError(t, rdb.Set(t.Context(), "ns:ns:k7", "v", 0).Err())
	back := migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: "ns"}, To: &migrate.Space{}, Keys: a, DeleteOld: true}
	r = run(t, rdb, back)
	require.EqualValues(t, 1, r.WouldBeMovedAgain, "its new name would be an old one")
	require.EqualValues(t, 500, r.Written)
	require.Equal(t, "v", string(stored(t, rdb, "k7")))
}

// before calls do before any pipeline that has the command.
type before struct {
	command string
	do      func()
}

func (before) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (before) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (b before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == b.command }) {
			b.do()
		}
		return next(ctx, cmds)
	}
}

// An entry that expires while it is moved is gone, is not a conflict, and is not kept forever. It may expire after it was read
// and before it is written. The copy of an earlier run may expire after it was read and before its expiry is read.
func TestMoveOfWhatExpires(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		const expire, stay = 50, 50
		ctx := t.Context()
		a := sealtest.Keyring(t)
		var at time.Time
		held := ""
		hold := func(command string) {
			rdb.AddHook(before{command, func() {
				if held == command {
					time.Sleep(time.Until(at.Add(10 * time.Millisecond)))
				}
			}})
		}
		hold("set")
		hold("pexpiretime")
		for _, command := range []string{"set", "pexpiretime"} {
			// On a slow machine it may expire before it is read.
			for life, met := time.Second, false; !met; life *= 2 {
				require.Less(t, life, 5*time.Minute)
				to := fmt.Sprint(ns, "-", command, "-", life.Seconds())
				at = time.Now().Add(life)
				for i := range expire + stay {
					require.NoError(t, rdb.Set(ctx, fmt.Sprint(to, "-old:k", i), "v", 0).Err())
				}
				for i := range expire {
					require.NoError(t, rdb.PExpireAt(ctx, fmt.Sprint(to, "-old:k", i), at).Err())
				}
				config := migrate.Config{
					Operation: migrate.Seal, From: migrate.Space{Prefix: to + "-old:"}, To: &migrate.Space{Namespace: to}, Keys: a,
				}
				if command == "pexpiretime" {
					held = ""
					require.Zero(t, run(t, rdb, config).NotChanged())
				}
				held, config.DeleteOld, config.IgnoreUnreadable = command, true, true
				r := run(t, rdb, config)
				require.Zero(t, r.NotChanged(), "%+v", r)
				require.True(t, r.Done())
				require.EqualValues(t, stay, r.Written+r.AlreadyDone)
				require.EqualValues(t, stay, r.Deleted)
				met = r.Disappeared >= expire
				time.Sleep(time.Until(at.Add(time.Millisecond)))
				app := migratetest.SealedStore(t, rdb, a, to)
				for i := range expire + stay {
					require.Zero(t, rdb.Exists(ctx, fmt.Sprint(to, "-old:k", i)).Val())
					if i < expire {
						require.Zero(t, rdb.Exists(ctx, name(to, i)).Val())
						continue
					}
					require.Equal(t, []byte("v"), value(t, app, fmt.Sprint("k", i)))
					require.EqualValues(t, -1, expiry(t, rdb, name(to, i)))
				}
			}
		}
	})
}
