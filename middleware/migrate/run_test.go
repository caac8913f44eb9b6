package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// Plaintext entries are sealed in place. The application reads the same values, and every expiry stays. Entries that are not
// plaintext values stay as they are and are counted.
func TestSealInPlace(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Envelope(t)
		app := migratetest.SealedStore(t, rdb, a, ns)
		const n = 300
		expiries := map[string]int64{}
		for i := range n {
			var ttl time.Duration
			if i%3 == 0 {
				ttl = time.Hour + time.Duration(i)*time.Millisecond
			}
			require.NoError(t, rdb.Set(ctx, name(ns, i), "value of "+name(ns, i), ttl).Err())
			expiries[name(ns, i)] = expiry(t, rdb, name(ns, i))
		}
		require.NoError(t, rdb.Set(ctx, ns+":empty", "", 0).Err())
		require.NoError(t, app.Set(ctx, "sealed", "already", store.WithTags([]string{"t"})))
		before := stored(t, rdb, ns+":sealed")
		require.NoError(t, rdb.LPush(ctx, ns+":list", "x").Err())
		require.NoError(t, rdb.HSet(ctx, ns+":hash", "f", "x").Err())
		require.NoError(t, rdb.Set(ctx, ns+"-elsewhere", "plaintext", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":counter:1", "41", 0).Err())

		config := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a,
			Exclude: []string{"counter:"},
		}
		dry := config
		dry.DryRun = true
		r := run(t, rdb, dry)
		require.EqualValues(t, n+1, r.Written)
		require.False(t, isSealed(stored(t, rdb, name(ns, 1))), "a dry run writes nothing")

		r = run(t, rdb, config)
		require.True(t, r.Done(), "%+v", r)
		require.EqualValues(t, n+1, r.Written)
		require.GreaterOrEqual(t, r.AlreadyDone, int64(1))
		require.EqualValues(t, 1, r.OtherTypes["list"])
		require.EqualValues(t, 1, r.OtherTypes["hash"])
		require.EqualValues(t, 1, r.Excluded)
		for i := range n {
			require.True(t, isSealed(stored(t, rdb, name(ns, i))))
			require.Equal(t, []byte("value of "+name(ns, i)), value(t, app, name("", i)[1:]))
			require.Equal(t, expiries[name(ns, i)], expiry(t, rdb, name(ns, i)), "the expiry, to the millisecond")
		}
		require.Empty(t, value(t, app, "empty"))
		require.Equal(t, before, stored(t, rdb, ns+":sealed"))
		require.Equal(t, "plaintext", string(stored(t, rdb, ns+"-elsewhere")))
		require.Equal(t, "41", string(stored(t, rdb, ns+":counter:1")))
		require.NoError(t, rdb.Incr(ctx, ns+":counter:1").Err())

		again := run(t, rdb, config)
		require.Zero(t, again.Written, "everything can be done again")
	})
}

// Plaintext values can be given these types.
func TestSealAs(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := sealtest.Keyring(t)
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithCodec(middleware.JSON[map[string]int]()), middleware.WithCodec(middleware.MsgPack[[]string]()))
		for _, c := range []struct {
			as   migrate.ValueType
			text string
			want any
		}{
			{migrate.AsBytes, "x", []byte("x")},
			{migrate.AsString, "x", "x"},
			{migrate.AsJSON, `{"a":1}`, map[string]int{"a": 1}},
			{migrate.AsMsgPack, "\x91\xa1a", []string{"a"}},
		} {
			require.NoError(t, rdb.Set(t.Context(), ns+":"+string(c.as), c.text, 0).Err())
			r := run(t, rdb, migrate.Config{
				Operation: migrate.Seal, From: migrate.Space{Namespace: ns, Prefix: string(c.as)}, Keys: a, As: c.as,
			})
			require.EqualValues(t, 1, r.Written)
			require.Equal(t, c.want, value(t, app, string(c.as)))
		}
		require.NoError(t, rdb.Set(t.Context(), ns+":bad", "{", 0).Err())
		r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns, Prefix: "bad"}, Keys: a, As: migrate.AsJSON})
		require.EqualValues(t, 1, r.WrongType)
		require.False(t, r.Done())
		require.Equal(t, "{", string(stored(t, rdb, ns+":bad")))
	})
}

// Unsealing writes for every type what the store writes as plaintext.
func TestUnsealIsWhatTheStoreWouldWrite(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Envelope(t)
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithCodec(middleware.JSON[[]int]()))
		plaintext := migratetest.SealedStore(t, rdb, a, ns+"-plaintext", middleware.WithCodec(middleware.JSON[[]int]()), middleware.WithPlaintext(middleware.WritePlaintext))
		values := map[string]any{
			"bytes": []byte{0, 1, 255}, "string": "text", "true": true, "false": false,
			"int": -1, "int8": int8(-128), "int16": int16(-300), "int32": int32(-70000), "int64": int64(-1 << 60),
			"uint": uint(7), "uint8": uint8(200), "uint16": uint16(60000), "uint32": uint32(4e9), "uint64": uint64(1 << 63),
			"uintptr": uintptr(9), "float32": float32(0.1), "float64": 1e21, "json": []int{1, 2}, "empty": "",
		}
		for k, v := range values {
			require.NoError(t, app.Set(ctx, k, v, store.WithExpiration(time.Hour)))
			require.NoError(t, plaintext.Set(ctx, k, v))
		}
		require.NoError(t, app.Set(ctx, "looks sealed", []byte("\xC1\x5C\x01")))
		r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a})
		require.EqualValues(t, len(values), r.Written)
		require.EqualValues(t, 1, r.WrongType, "in plaintext it could not be told from a sealed one")
		for k := range values {
			require.Equal(t, string(stored(t, rdb, ns+"-plaintext:"+k)), string(stored(t, rdb, ns+":"+k)), k)
			require.Positive(t, expiry(t, rdb, ns+":"+k))
		}
	})
}

// Old key to primary, keyring to envelope, envelope to keyring, keyset to keyset: types, expiries and values stay.
func TestReseal(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		first := sealtest.Handle(t)
		oldRing := sealtest.KeyringOf(t, first)
		both, _, _ := sealtest.Rotated(t, first)
		newRing := sealtest.KeyringOf(t, both)
		other := sealtest.Keyring(t)
		values := map[string]any{"s": "text", "i": int64(42), "b": []byte{1}, "f": 1.5}
		app := migratetest.SealedStore(t, rdb, oldRing, ns)
		for k, v := range values {
			require.NoError(t, app.Set(ctx, k, v, store.WithExpiration(time.Hour)))
		}
		require.NoError(t, rdb.Set(ctx, ns+":plaintext", "plaintext", 0).Err())
		expires := expiry(t, rdb, ns+":s")
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}}
		for step, c := range []struct {
			keys, old tink.AEADWithContext
		}{
			{newRing, nil},
			{sealtest.EnvelopeOf(t, newRing), newRing},
			{sealtest.EnvelopeOf(t, other), sealtest.EnvelopeOf(t, newRing)},
			{oldRing, sealtest.EnvelopeOf(t, other)},
		} {
			config.Keys, config.OldKeys = c.keys, nil
			if c.old != nil {
				config.OldKeys = c.old
			}
			r := run(t, rdb, config)
			require.EqualValues(t, len(values), r.Written, "step %d: %+v", step, r)
			require.EqualValues(t, 1, r.Plaintext)
			require.EqualValues(t, 1, r.NotChanged())
			r = run(t, rdb, config)
			require.Zero(t, r.Written, "step %d", step)
			require.EqualValues(t, len(values), r.AlreadyDone)
			app := migratetest.SealedStore(t, rdb, c.keys, ns)
			for k, v := range values {
				require.Equal(t, v, value(t, app, k))
			}
			require.Equal(t, expires, expiry(t, rdb, ns+":s"))
		}
	})
}

// Values that do not open are left alone and counted.
func TestLeft(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a, stranger := sealtest.Keyring(t), sealtest.Keyring(t)
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns).Set(ctx, "good", "v"))
		require.NoError(t, migratetest.SealedStore(t, rdb, stranger, ns).Set(ctx, "stranger", "v"))
		require.NoError(t, rdb.Set(ctx, ns+":moved", stored(t, rdb, ns+":good"), 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":foreign", "\xC1\x5C\x02\x01\x01\x00xxxxxxxx", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":large", string(make([]byte, 2000)), 0).Err())
		r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a, MaxValueBytes: 1000, IgnoreUnreadable: true})
		require.EqualValues(t, 1, r.Written)
		require.EqualValues(t, 1, r.UnknownKey)
		require.EqualValues(t, 1, r.Unreadable)
		require.EqualValues(t, 1, r.UnknownFormat)
		require.EqualValues(t, 1, r.TooLarge)
		require.EqualValues(t, 4, r.NotChanged())
		require.False(t, r.Done())
		require.True(t, isSealed(stored(t, rdb, ns+":moved")))
	})
}

// A queue's keys are never touched in any scope.
func TestAsynqIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := shared.Single.ClientOptions()
	server.DB = 150
	rdb := redis.NewClient(server)
	t.Cleanup(func() { _ = rdb.Close() })
	ctx := t.Context()
	require.NoError(t, rdb.Set(ctx, "asynq:{default}:processed", "3", 0).Err())
	require.NoError(t, rdb.Set(ctx, "other", "3", 0).Err())
	r := run(t, rdb, migrate.Config{Operation: migrate.Seal, Keys: sealtest.Keyring(t)})
	require.EqualValues(t, 1, r.Written)
	require.Equal(t, "3", string(stored(t, rdb, "asynq:{default}:processed")))
}

// A run and an application that seals on read seal alike.
func TestSealOnReadAgrees(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		require.NoError(t, rdb.Set(ctx, ns+":read", "v", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":run", "v", 0).Err())
		app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.SealOnRead))
		require.Equal(t, []byte("v"), value(t, app, "read"))
		run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		one, err := middleware.Inspect(stored(t, rdb, ns+":read"))
		require.NoError(t, err)
		two, err := middleware.Inspect(stored(t, rdb, ns+":run"))
		require.NoError(t, err)
		require.Equal(t, one, two)
		require.Equal(t, []byte("v"), value(t, app, "run"))
	})
}

// A Config that cannot be meant is refused before anything is done.
func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	a := sealtest.Keyring(t)
	to := migrate.Space{Namespace: "b"}
	same := migrate.Space{}
	for text, c := range map[string]migrate.Config{
		"Operation is missing":                {Keys: a},
		"Keys is missing":                     {Operation: migrate.Seal},
		"namespace":                           {Operation: migrate.Seal, Keys: a, From: migrate.Space{Namespace: "a:b"}},
		"Config.To and Config.From are equal": {Operation: migrate.Seal, Keys: a, To: &same},
		"belong to asynq":                     {Operation: migrate.Seal, Keys: a, From: migrate.Space{Namespace: "asynq"}},
		"DeleteOld":                           {Operation: migrate.Seal, Keys: a, DeleteOld: true},
		"unknown type":                        {Operation: migrate.Seal, Keys: a, As: "int"},
		"As applies":                          {Operation: migrate.Reseal, Keys: a, As: migrate.AsBytes},
		"Exclude[0]":                          {Operation: migrate.Seal, Keys: a, Exclude: []string{""}},
		"Rate":                                {Operation: migrate.Seal, Keys: a, Rate: -1},
		"MaxValueBytes":                       {Operation: migrate.Seal, Keys: a, MaxValueBytes: -1, To: &to},
	} {
		r, err := migratetest.Unproven(t.Context(), rdb, c)
		require.ErrorContains(t, err, text)
		require.ErrorIs(t, err, migrate.ErrConfig)
		require.Nil(t, r)
	}
	_, err := migratetest.Unproven(t.Context(), nil, migrate.Config{Operation: migrate.Seal, Keys: a})
	require.Error(t, err)
	_, err = migratetest.Unproven(t.Context(), (*redis.Client)(nil), migrate.Config{Operation: migrate.Seal, Keys: a})
	require.Error(t, err)
	_, err = migratetest.Unproven(t.Context(), rdb, migrate.Config{Operation: migrate.Seal, Keys: (*aead.Keyring)(nil)})
	require.ErrorContains(t, err, "Keys is missing")
}

// Applications of gocache have these in Redis: values that its marshaler wrote, and texts under cache.New[string] over its own
// store. Each reads its values before, while and after they are sealed.
func TestValuesOfGocacheApplications(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		type user struct{ Name string }

		theirs := gocacheredis.NewRedis(rdb)
		require.NoError(t, cache.New[string](theirs).Set(ctx, ns+":text", "alice"))
		tolerant, err := middleware.New(theirs, a, middleware.WithNamespace(ns), middleware.WithPlaintext(middleware.ReadPlaintext))
		require.NoError(t, err)
		texts := cache.New[string](tolerant)
		got, err := texts.Get(ctx, "text")
		require.NoError(t, err)
		require.Equal(t, "alice", got)
		run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns, Prefix: "text"}, Keys: a, As: migrate.AsString})
		got, err = texts.Get(ctx, "text")
		require.NoError(t, err)
		require.Equal(t, "alice", got)

		require.NoError(t, marshaler.New(cache.New[any](theirs)).Set(ctx, ns+":user", user{"bob"}))
		users := marshaler.New(cache.New[any](migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.ReadPlaintext))))
		for range 2 {
			u, err := users.Get(ctx, "user", new(user))
			require.NoError(t, err)
			require.Equal(t, &user{"bob"}, u)
			run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		}
		require.True(t, isSealed(stored(t, rdb, ns+":user")))
	})
}

// outage is an AEAD whose key service is away for some calls in the middle.
type outage struct {
	tink.AEADWithContext
	calls *atomic.Int64
}

func (o outage) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if n := o.calls.Add(1); n > 50 && n <= 55 {
		return nil, fmt.Errorf("a test says so: %w", aead.ErrKeyServiceUnavailable)
	}
	return o.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
}

// A key service that is away for a moment is waited for. Nothing is written in plaintext, nothing is left.
func TestKeyServiceOutage(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		fill(t, rdb, ns, 200)
		a := outage{sealtest.Keyring(t), new(atomic.Int64)}
		r := runBy(small(t.Context(), 20), t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		require.True(t, r.Done(), "%+v", r)
		require.Greater(t, a.calls.Load(), int64(205), "the outage was met")
		for i := range 200 {
			require.True(t, isSealed(stored(t, rdb, name(ns, i))))
		}
	})
}

// An AEAD that does not seal is found out before anything is written.
func TestAEADThatDoesNotSeal(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	fill(t, rdb, t.Name(), 1)
	_, err := migratetest.Unproven(t.Context(), rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: t.Name()}, Keys: noSeal{}})
	require.ErrorContains(t, err, "does not encrypt")
	require.Equal(t, "value 0", string(stored(t, rdb, name(t.Name(), 0))))
}

type noSeal struct{}

func (noSeal) EncryptWithContext(_ context.Context, p, _ []byte) ([]byte, error) { return p, nil }
func (noSeal) DecryptWithContext(_ context.Context, c, _ []byte) ([]byte, error) { return c, nil }

// Two runs at the same time do the work together.
func TestTwoRuns(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		const n = 2000
		fill(t, rdb, ns, n)
		a := sealtest.Keyring(t)
		var group sync.WaitGroup
		reports, errs := make([]*migrate.Report, 2), make([]error, 2)
		for i := range reports {
			group.Go(func() {
				reports[i], errs[i] = migratetest.Unproven(small(context.Background(), 50), rdb, migrate.Config{
					Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a,
				})
			})
		}
		group.Wait()
		require.NoError(t, errors.Join(errs...))
		require.EqualValues(t, n, reports[0].Written+reports[1].Written, "each entry once")
		app := migratetest.SealedStore(t, rdb, a, ns)
		for i := range n {
			require.Equal(t, fmt.Appendf(nil, "value %d", i), value(t, app, fmt.Sprint("k", i)))
		}
	})
}

// answersOnce is a key service that once answers something else, such as the page of a proxy.
type answersOnce struct {
	tink.AEADWithContext
	seals atomic.Int64
	at    int64
}

func (a *answersOnce) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if a.seals.Add(1) == a.at {
		return []byte("<html>502 Bad Gateway</html>"), nil
	}
	return a.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
}

// A sealed value replaces the only copy, so a run proves that it opens.
func TestWrongAnswerReplacesNoValue(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.Start(t).Client(t), t.Context()
	a := sealtest.Keyring(t)
	const n = 5
	for i := range n {
		require.NoError(t, rdb.Set(ctx, name("shop", i), "v", 0).Err())
	}
	service := &answersOnce{AEADWithContext: a, at: 3}
	r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: service, AllowUnproven: true})
	require.True(t, r.Done(), "%+v", r)
	require.Greater(t, service.seals.Load(), int64(n))
	app := migratetest.SealedStore(t, rdb, a, "shop")
	for i := range n {
		require.Equal(t, []byte("v"), value(t, app, name("", i)[1:]))
	}
}
