package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// longVariable asks for a million entries, which takes a minute or two. `make test-long` sets it.
const longVariable = "MIGRATE_TEST_LONG"

func entriesHere(n, long int) int {
	switch {
	case os.Getenv(longVariable) != "":
		return long
	case testing.Short():
		return n / 10
	default:
		return n
	}
}

// held is what the model knows of a key.
type held struct {
	value   []byte // nil: deleted
	expires int64  // as Redis has it; 0: not known any more, some time in the future
}

const (
	liveWriters = 4
	liveTags    = 8
)

// live fills a database with entries of all sizes, TTLs and forms, some with other types among them.
func live(t *testing.T, rdb redis.UniversalClient, ns string, a tink.AEADWithContext, n int) []held {
	t.Helper()
	ctx := t.Context()
	model := make([]held, n)
	sealed := migratetest.SealedStore(t, rdb, a, ns)
	random := rand.New(rand.NewPCG(1, 2))
	const part = 1000
	for start := 0; start < n; start += part {
		end := min(start+part, n)
		pipe := rdb.Pipeline()
		for i := start; i < end; i++ {
			size := []int{0, 1, 20, 200, 256, 1000}[random.IntN(6)]
			if i%5000 == 17 {
				size = 300_000
			}
			model[i].value = bytes.Repeat([]byte{byte('a' + i%26)}, size)
			var ttl time.Duration
			if random.IntN(2) == 0 {
				ttl = time.Hour + time.Duration(random.IntN(1e9))*time.Microsecond
			}
			if i%100 == 50 { // some are sealed already
				require.NoError(t, sealed.Set(ctx, fmt.Sprint("k", i), model[i].value, store.WithExpiration(ttl)))
			} else {
				pipe.Set(ctx, name(ns, i), model[i].value, ttl)
			}
		}
		for i := start; i < end; i++ {
			pipe.Do(ctx, "pexpiretime", name(ns, i))
		}
		cmds, err := pipe.Exec(ctx)
		require.NoError(t, err)
		for i := start; i < end; i++ {
			at, err := cmds[len(cmds)-end+i].(*redis.Cmd).Int64()
			require.NoError(t, err)
			model[i].expires = at
		}
	}
	for i := range 100 {
		require.NoError(t, rdb.HSet(ctx, fmt.Sprint(ns, ":hash", i), "f", "v").Err())
		require.NoError(t, rdb.SAdd(ctx, fmt.Sprint("gocache_tag_", ns, ":t", i%liveTags), name(ns, i)).Err())
	}
	return model
}

// application is one goroutine of an application that goes on during the run, on its own keys of the model. It checks
// everything that it reads.
func application(ctx context.Context, app store.StoreInterface, rdb redis.UniversalClient, ns string, model []held, which int, ops *atomic.Int64) error {
	random := rand.New(rand.NewPCG(uint64(which), 7))
	for ctx.Err() == nil {
		i := random.IntN(len(model)/liveWriters)*liveWriters + which
		m := &model[i]
		key := fmt.Sprint("k", i)
		ops.Add(1)
		// Operations get their own context: one that is cut off may or may not have been done.
		ctx := context.Background()
		switch random.IntN(10) {
		case 0, 1:
			v := fmt.Appendf(nil, "written %d by %d", random.Int(), which)
			if err := app.Set(ctx, key, v, store.WithExpiration(2*time.Hour)); err != nil {
				return err
			}
			*m = held{value: v, expires: 0}
		case 2:
			v := fmt.Appendf(nil, "forever %d", random.Int())
			if err := app.Set(ctx, key, v); err != nil {
				return err
			}
			*m = held{value: v, expires: -1}
		case 3:
			if err := app.Delete(ctx, key); err != nil {
				return err
			}
			*m = held{}
		case 4: // the TTL alone
			if m.value != nil {
				if err := rdb.PExpire(ctx, ns+":"+key, 3*time.Hour).Err(); err != nil {
					return err
				}
				m.expires = 0
			}
		default:
			got, err := app.Get(ctx, key)
			if m.value == nil {
				if !errors.Is(err, store.NotFound{}) {
					return fmt.Errorf("a deleted entry is back: %w", err)
				}
				continue
			}
			if err != nil {
				return err
			}
			if b, ok := got.([]byte); !ok || !bytes.Equal(b, m.value) {
				return fmt.Errorf("an update was lost: %T", got)
			}
		}
	}
	return nil
}

// A whole migration under a live application: no update is lost, no expiry changes, and nothing is left in plaintext.
func TestLive(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		n := entriesHere(40_000, 1_000_000)
		if _, cluster := rdb.(*redis.ClusterClient); cluster {
			n /= 4
		}
		first := sealtest.Handle(t)
		a := sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, first))
		model := live(t, rdb, ns, a, n)
		for _, policy := range []middleware.PlaintextPolicy{middleware.SealOnRead, middleware.ReadPlaintext} {
			// Both instances of a deployment, of either policy, see the same.
			app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(policy))
			require.Equal(t, model[0].value, value(t, app, "k0"))
		}
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.SealOnRead))
		ops := under(t, app, rdb, ns, model, func() {
			// Slowly enough for the application to work during the run.
			r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, Rate: float64(min(n, 40_000))})
			require.True(t, r.Done(), "%+v", r)
			require.EqualValues(t, 100, r.OtherTypes["hash"])
			t.Logf("%d entries, %d written, %d read again, %v", r.Seen, r.Written, r.Retried, r.Elapsed)
		})
		t.Logf("%d operations of the application during the run", ops)
		require.Positive(t, ops)
		matches(t, rdb, migratetest.SealedStore(t, rdb, a, ns), ns, model)
		report := audited(t, rdb, audit.Config{Prefix: ns + ":", IgnoreTypes: allTypes, Keys: []tink.AEADWithContext{a}, Namespaces: []string{ns}})
		answer, why := report.AnythingPlaintext()
		require.Equal(t, audit.No, answer, why)
		require.Zero(t, report.Total.Unreadable.Values)

		// Under a new key, with the application at work under it already.
		both, old, _ := sealtest.Rotated(t, first)
		b := sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, both))
		app = migratetest.SealedStore(t, rdb, b, ns)
		under(t, app, rdb, ns, model, func() {
			r := run(t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: b})
			require.True(t, r.Done(), "%+v", r)
		})
		matches(t, rdb, app, ns, model)
		require.Zero(t, use(audited(t, rdb, audit.Config{Prefix: ns + ":"}), fmt.Sprintf("key %d of a KEK", old)))

		// And back to plaintext, with the application in the state that reads both and writes plaintext.
		app = migratetest.SealedStore(t, rdb, b, ns, middleware.WithPlaintext(middleware.WritePlaintext))
		under(t, app, rdb, ns, model, func() {
			r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: b})
			require.True(t, r.Done(), "%+v", r)
		})
		backing, err := redisstore.New(rdb)
		require.NoError(t, err)
		matches(t, rdb, prefixed{backing, ns + ":"}, ns, model)
		require.Zero(t, audited(t, rdb, audit.Config{Prefix: ns + ":"}).Total.Sealed.Values)
	})
}

// An instance that still writes in plaintext, as fast as it can and to few keys, loses no write to a run that seals them.
func TestEntriesThatKeepChanging(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		const keys = 8
		a := sealtest.Keyring(t)
		fill(t, rdb, ns, keys)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var group sync.WaitGroup
		var last [keys]int
		errs := make([]error, keys)
		for k := range keys {
			group.Go(func() {
				for i := 1; ctx.Err() == nil; i++ {
					if errs[k] = rdb.Set(context.Background(), name(ns, k), i, time.Hour).Err(); errs[k] != nil {
						return
					}
					last[k] = i
				}
			})
		}
		var met, written int64
		contended := func() bool { return met > 0 && written > 0 }
		for began := time.Now(); time.Since(began) < time.Second || !contended() && time.Since(began) < 2*time.Minute; {
			r := runBy(tuned(t.Context(), rediswalk.Tuning{Attempts: 3}), t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
			require.EqualValues(t, r.Seen, r.Written+r.AlreadyDone+r.KeptChanging, "%+v", r)
			met, written = met+r.Retried, written+r.Written
		}
		stop()
		group.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Positive(t, met, "nothing was contended: the test shows nothing")
		require.Positive(t, written)
		run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		app := migratetest.SealedStore(t, rdb, a, ns)
		for k := range keys {
			require.Equal(t, fmt.Sprint(last[k]), string(value(t, app, fmt.Sprint("k", k)).([]byte)), "the last write")
		}
	})
}

// under does something while an application is at work, and returns how many operations that did.
func under(t *testing.T, app store.StoreInterface, rdb redis.UniversalClient, ns string, model []held, do func()) int64 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var ops atomic.Int64
	errs := make([]error, liveWriters)
	for w := range liveWriters {
		group.Go(func() { errs[w] = application(ctx, app, rdb, ns, model, w, &ops) })
	}
	do()
	stop()
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	return ops.Load()
}

// matches holds everything against the model.
func matches(t *testing.T, rdb redis.UniversalClient, app store.StoreInterface, ns string, model []held) {
	t.Helper()
	for i, m := range model {
		got, err := app.Get(t.Context(), fmt.Sprint("k", i))
		if m.value == nil {
			require.ErrorIs(t, err, store.NotFound{}, i)
			continue
		}
		require.NoError(t, err, i)
		if b, ok := got.([]byte); !ok || !bytes.Equal(b, m.value) {
			require.Failf(t, "an update was lost", "%d", i)
		}
	}
	const part = 1000
	for start := 0; start < len(model); start += part {
		end := min(start+part, len(model))
		pipe := rdb.Pipeline()
		for i := start; i < end; i++ {
			pipe.Do(t.Context(), "pexpiretime", name(ns, i))
		}
		cmds, err := pipe.Exec(t.Context())
		require.NoError(t, err)
		for i := start; i < end; i++ {
			at, err := cmds[i-start].(*redis.Cmd).Int64()
			require.NoError(t, err)
			switch m := model[i]; {
			case m.value == nil:
				require.EqualValues(t, -2, at)
			case m.expires == 0:
				require.Greater(t, at, time.Now().UnixMilli())
			default:
				require.Equal(t, m.expires, at, "the expiry of %d", i)
			}
		}
	}
	for i := range 100 {
		require.Equal(t, "v", rdb.HGet(t.Context(), fmt.Sprint(ns, ":hash", i), "f").Val())
	}
}

// prefixed is a store whose keys have a prefix.
type prefixed struct {
	store.StoreInterface
	prefix string
}

func (p prefixed) Get(ctx context.Context, key any) (any, error) {
	return p.StoreInterface.Get(ctx, p.prefix+key.(string))
}
