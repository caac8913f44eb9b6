package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// keyCheck makes the entry that Store.Check makes.
func keyCheck(t testing.TB, rdb redis.UniversalClient, a tink.AEADWithContext, ns string) []byte {
	t.Helper()
	c, err := keycheck.New(a, ns)
	require.NoError(t, err)
	b, err := c.Seal(t.Context())
	require.NoError(t, err)
	require.NoError(t, rdb.Set(t.Context(), keycheck.StoredName(ns), b, 0).Err())
	return b
}

// scans counts calls of SCAN.
type scans struct{ n atomic.Int64 }

func (*scans) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*scans) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *scans) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "scan" {
			s.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

// A key check that does not open refuses every operation before anything is read, however often it is asked.
func TestKeyCheckRefuses(t *testing.T) {
	t.Parallel()
	rdb, ctx := shared.Single.Client(t), t.Context()
	counted := &scans{}
	rdb.AddHook(counted)
	ns := "keycheck-refuses"
	app, wrong := sealtest.Envelope(t), sealtest.Envelope(t)
	fill(t, rdb, ns, 50)
	from := migrate.Space{Namespace: ns}
	before := keyCheck(t, rdb, app, ns)
	for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal, migrate.Unseal} {
		for range 2 {
			for _, c := range []migrate.Config{
				{Operation: o, From: from, Keys: wrong},
				{Operation: o, From: from, Keys: wrong, AllowUnproven: true},
				{Operation: o, From: from, Keys: wrong, DryRun: true},
				{Operation: o, From: from, Keys: wrong, IgnoreUnreadable: true},
				{Operation: o, From: migrate.Space{Prefix: "elsewhere:"}, To: &from, Keys: wrong},
			} {
				r, err := migrate.Run(ctx, rdb, c)
				require.ErrorIs(t, err, migrate.ErrWrongKeys)
				require.ErrorContains(t, err, "sealed under key ") // the reason of package aead
				require.NotContains(t, err.Error(), ns)
				require.Zero(t, r.Written)
			}
		}
	}
	require.Zero(t, counted.n.Load(), "nothing was read")
	require.Equal(t, before, stored(t, rdb, keycheck.StoredName(ns)))
	for i := range 50 {
		require.False(t, isSealed(stored(t, rdb, name(ns, i))))
	}
	// Bytes that an attacker plants there refuse the run too.
	for _, planted := range []string{"plaintext", string(stored(t, rdb, name(ns, 1))), "\xC1\x5C\x09xxxxxxxxxxxx"} {
		require.NoError(t, rdb.Set(ctx, keycheck.StoredName(ns), planted, 0).Err())
		_, err := migrate.Run(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: from, Keys: app})
		require.ErrorIs(t, err, migrate.ErrWrongKeys)
	}
	require.NoError(t, rdb.Del(ctx, keycheck.StoredName(ns)).Err())
	require.NoError(t, rdb.RPush(ctx, keycheck.StoredName(ns), "x").Err())
	_, err := migrate.Run(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: from, Keys: app})
	require.ErrorIs(t, err, migrate.ErrWrongKeys)
}

// A key check that opens proves the keys, and no run makes or seals one.
func TestKeyCheckProves(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := sealtest.Keyring(t)
		fill(t, rdb, ns, 20)
		check := keyCheck(t, rdb, a, ns)
		r, err := migrate.Run(t.Context(), rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		require.NoError(t, err)
		require.True(t, r.Done(), "%+v", r)
		require.Equal(t, "key check", r.KeysProvenBy)
		require.False(t, r.Unproven())
		require.EqualValues(t, 20, r.Written)
		require.EqualValues(t, 1, r.Reserved)
		require.Equal(t, check, stored(t, rdb, keycheck.StoredName(ns)))

		other := ns + "-2"
		fill(t, rdb, other, 5)
		r = run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: other}, Keys: a})
		require.True(t, r.Unproven())
		require.Zero(t, rdb.Exists(t.Context(), keycheck.StoredName(other)).Val())
	})
}

// Without a key check a run asks for a proof, which must open under Keys.
func TestProof(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a, old := sealtest.Keyring(t), sealtest.Keyring(t)
		fill(t, rdb, ns, 20)
		app := migratetest.SealedStore(t, rdb, a, ns)
		require.NoError(t, app.Set(ctx, "proof", "v"))
		require.NoError(t, migratetest.SealedStore(t, rdb, old, ns).Set(ctx, "old", "v"))
		base := migrate.Config{From: migrate.Space{Namespace: ns}, Keys: a, OldKeys: old}
		for _, base.Operation = range []migrate.Operation{migrate.Seal, migrate.Reseal, migrate.Unseal} {
			for want, change := range map[error]func(c *migrate.Config){
				migrate.ErrUnproven:  func(*migrate.Config) {},
				migrate.ErrWrongKeys: func(c *migrate.Config) { c.Proof = "old" },
				migrate.ErrConfig:    func(c *migrate.Config) { c.Proof = "k1" }, // plaintext
			} {
				c := base
				change(&c)
				r, err := migrate.Run(ctx, rdb, c)
				require.ErrorIs(t, err, want)
				require.NotContains(t, err.Error(), ns)
				require.Zero(t, r.Written)
			}
		}
		base.Operation, base.Proof = migrate.Seal, "proof"
		r := run(t, rdb, base)
		require.Equal(t, "proof", r.KeysProvenBy)
		require.EqualValues(t, 20, r.Written)
		require.Equal(t, "v", value(t, app, "proof"))

		base.Proof, base.Stored = ns+":proof", true
		require.Equal(t, "proof", run(t, rdb, base).KeysProvenBy)
		base.Proof = "proof"
		_, err := migrate.Run(ctx, rdb, base)
		require.ErrorIs(t, err, migrate.ErrConfig)
		base.AllowUnproven = true
		_, err = migrate.Run(ctx, rdb, base)
		require.ErrorIs(t, err, migrate.ErrConfig, "one or the other")
	})
}

// A wrong namespace or prefix is named, and not the lack of a proof.
func TestUnprovenWithoutNames(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		fill(t, rdb, ns, 20)
		for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal, migrate.Unseal} {
			for _, from := range []migrate.Space{{Namespace: ns + "x"}, {Namespace: ns, Prefix: "none"}} {
				_, err := migrate.Run(t.Context(), rdb, migrate.Config{Operation: o, From: from, Keys: sealtest.Keyring(t)})
				require.ErrorIs(t, err, migrate.ErrUnproven)
				require.ErrorContains(t, err, "no name starts with \""+from.Namespace+":"+from.Prefix+"\"")
				require.NotContains(t, err.Error(), "key-check")
			}
		}
	})
}

// The search for names keeps to the rate of the run.
func TestUnprovenKeepsTheRate(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	control := new(migrate.Control)
	control.Pause()
	counted := &scans{}
	rdb.AddHook(counted)
	waited := false
	ctx := tuned(t.Context(), rediswalk.Tuning{ProgressEvery: 1e6})
	_, err := migrate.Run(ctx, rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "keeps-the-rate"}, Keys: sealtest.Keyring(t), Control: control,
		Progress: func(p migrate.Progress) {
			if !p.Final && counted.n.Load() > 0 {
				waited = true
				control.Resume()
			}
		},
	})
	require.ErrorIs(t, err, migrate.ErrUnproven)
	require.True(t, waited)
}

// If the search for names fails, the error still says that the proof is missing.
func TestUnprovenWithoutSearch(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: "~* +@all -scan"})
	_, err := migrate.Run(t.Context(), server.Client(t), migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t),
	})
	require.ErrorIs(t, err, migrate.ErrUnproven)
	require.ErrorContains(t, err, "no entry sealcache.key-check, and Redis refused to list names: NOPERM")
}

// A search for names that is interrupted, or that an outage ends, says nothing about the proof.
func TestUnprovenInterrupted(t *testing.T) {
	t.Parallel()
	config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "interrupted"}, Keys: sealtest.Keyring(t)}
	for _, outage := range []error{nil, aead.ErrClosed} { // an error that is not repeated for half a minute
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rdb := redis.NewClient(shared.Single.ClientOptions())
		t.Cleanup(func() { _ = rdb.Close() })
		rdb.AddHook(beforeScan{func(context.Context) error {
			if outage == nil {
				cancel()
			}
			return outage
		}})
		_, err := migrate.Run(ctx, rdb, config)
		require.ErrorContains(t, err, "migrate: cannot list the names of the namespace: ")
		require.NotErrorIs(t, err, migrate.ErrUnproven)
	}
}

// The key check proves keys only together with the data. A process with wrong keys may have made it.
func TestFirstSealedValuesMustOpen(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		wrong := sealtest.Envelope(t)
		app := migratetest.SealedStore(t, rdb, sealtest.Envelope(t), ns)
		fill(t, rdb, ns, 100)
		for i := range 3 {
			require.NoError(t, app.Set(ctx, fmt.Sprint("sealed", i), "v"))
		}
		keyCheck(t, rdb, wrong, ns)
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: wrong}
		for _, config.Operation = range []migrate.Operation{migrate.Seal, migrate.Reseal} {
			r, err := migrate.Run(ctx, rdb, config)
			require.ErrorIs(t, err, migrate.ErrWrongKeys)
			require.ErrorContains(t, err, "the given encryption keys do not open the first 3 sealed values in Redis: 3 are sealed under key ")
			require.ErrorContains(t, err, ", which is not given (is its keyset missing?)")
			require.Zero(t, r.Written)
		}
		for i := range 100 {
			require.False(t, isSealed(stored(t, rdb, name(ns, i))))
		}
		// A dry run counts them and says what the run without DryRun would do.
		config.Operation, config.DryRun = migrate.Seal, true
		r, err := migrate.Run(ctx, rdb, config)
		require.NoError(t, err)
		require.EqualValues(t, 3, r.Unreadable+r.UnknownKey)
		require.False(t, r.Done())
		require.Contains(t, strings.Join(r.Warnings, "\n"), "the real run would refuse to start: the given encryption keys do not open the first 3 sealed values in Redis")

		config.DryRun, config.IgnoreUnreadable = false, true
		r, err = migrate.Run(ctx, rdb, config)
		require.NoError(t, err)
		require.EqualValues(t, 100, r.Written)
		require.EqualValues(t, 3, r.Unreadable+r.UnknownKey)
		require.False(t, r.Done())
	})
}

// The values before the first write decide, and a few that are damaged do not stop a run.
func TestSomeDamagedValuesDoNotStopARun(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := sealtest.Keyring(t)
		for i := range 3 {
			require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), ns).Set(t.Context(), fmt.Sprint(i), "v"))
		}
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns).Set(t.Context(), "good", "v"))
		fill(t, rdb, ns, 10)
		r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		require.EqualValues(t, 10, r.Written)
		require.EqualValues(t, 3, r.UnknownKey)
		require.False(t, r.Done())
	})
}

// sealHook calls do once, when n values were sealed.
type sealHook struct {
	tink.AEADWithContext
	n  atomic.Int64
	do func()
}

func (m *sealHook) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if m.n.Add(-1) == 0 {
		m.do()
	}
	return m.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
}

// If nothing proves the keys and nothing has opened, the first batch with sealed values that are all refused ends the run.
// The report says what was written before.
func TestUnprovenRunEndsAtTheFirstRefusal(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		for what, to := range map[string]*migrate.Space{"in place": nil, "moved": {Namespace: ns + "-to"}} {
			const entries, batch = 1000, 20
			fill(t, rdb, ns, entries)
			a := migratetest.SealedStore(t, rdb, sealtest.Keyring(t), ns)
			keys := &sealHook{AEADWithContext: sealtest.Keyring(t)}
			keys.n.Store(entries / 2)
			keys.do = func() {
				for i := range entries {
					require.NoError(t, a.Set(t.Context(), fmt.Sprint("k", i), "v"))
				}
			}
			r, err := migratetest.Unproven(tuned(t.Context(), rediswalk.Tuning{Workers: 1, BatchSize: batch}), rdb, migrate.Config{
				Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, To: to, Keys: keys,
			})
			require.ErrorIs(t, err, migrate.ErrWrongKeys, what)
			require.Contains(t, err.Error(), fmt.Sprint("entries written before the error: ", r.Written), what)
			require.Equal(t, err.Error(), r.Error, what)
			require.Less(t, r.Unreadable+r.UnknownKey, int64(batch), what)
			require.Greater(t, r.Written, int64(0), what)
			require.Less(t, r.Written, int64(entries/2+2*batch), what)
		}
	})
}

// A refused run stays refused when it is repeated, with its checkpoint and without, although its own writes open by now.
func TestRefusalIsRemembered(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		const entries, batch = 1000, 20
		fill(t, rdb, ns, entries)
		right := sealtest.Keyring(t)
		app := migratetest.SealedStore(t, rdb, right, ns)
		wrong := sealtest.Keyring(t)
		keys := &sealHook{AEADWithContext: wrong}
		keys.n.Store(entries / 2)
		keys.do = func() {
			for i := range entries {
				require.NoError(t, app.Set(t.Context(), fmt.Sprint("k", i), "v"))
			}
		}
		config := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: keys, Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
		}
		ctx := tuned(t.Context(), rediswalk.Tuning{Workers: 1, BatchSize: batch})
		_, err := migratetest.Unproven(ctx, rdb, config)
		require.ErrorIs(t, err, migrate.ErrWrongKeys)
		for i := range entries / 2 { // as if more writes had been under way
			require.NoError(t, migratetest.SealedStore(t, rdb, wrong, ns).Set(ctx, fmt.Sprint("own", i), "v"))
		}
		config.Keys = wrong
		withoutCheckpoint := config
		withoutCheckpoint.Checkpoint, withoutCheckpoint.Exclude = "", []string{"k1"}
		for _, c := range []migrate.Config{withoutCheckpoint, {Operation: migrate.Reseal, From: config.From, Keys: wrong}} {
			r, err := migratetest.Unproven(ctx, rdb, c)
			require.ErrorIs(t, err, migrate.ErrWrongKeys)
			require.Zero(t, r.Written)
			c.Keys, c.DryRun = right, true
			_, err = migratetest.Unproven(ctx, rdb, c)
			require.NoError(t, err, "other keys are not refused")
		}
		for range 2 {
			r, err := migratetest.Unproven(ctx, rdb, config)
			require.ErrorIs(t, err, migrate.ErrWrongKeys)
			require.False(t, r.Complete)
		}
		config.IgnoreUnreadable = true
		r, err := migratetest.Unproven(ctx, rdb, config)
		require.NoError(t, err)
		require.False(t, r.Done())
	})
}

// Reseal renews the key check under the present key, also one that only the old keys open.
func TestResealRenewsTheKeyCheck(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		first := sealtest.Handle(t)
		both, _, _ := sealtest.Rotated(t, first)
		old, now := sealtest.KeyringOf(t, first), sealtest.KeyringOf(t, both)
		app := migratetest.SealedStore(t, rdb, old, ns)
		require.NoError(t, app.Set(ctx, "k", "v"))
		before := keyCheck(t, rdb, old, ns)
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: now, DryRun: true}
		_, err := migrate.Run(ctx, rdb, config)
		require.NoError(t, err)
		require.Equal(t, before, stored(t, rdb, keycheck.StoredName(ns)), "a dry run writes nothing")
		config.DryRun = false
		_, err = migrate.Run(ctx, rdb, config)
		require.NoError(t, err)
		renewed := stored(t, rdb, keycheck.StoredName(ns))
		require.True(t, keycheck.Outdated(before, renewed))
		_, err = migrate.Run(ctx, rdb, config)
		require.NoError(t, err)
		require.Equal(t, renewed, stored(t, rdb, keycheck.StoredName(ns)), "nothing to renew")

		// Another keyset: the check opens under the old one, which does not prove the new one.
		next := sealtest.Keyring(t)
		config.Keys, config.OldKeys = next, now
		_, err = migrate.Run(ctx, rdb, config)
		require.ErrorIs(t, err, migrate.ErrUnproven)
		require.NoError(t, migratetest.SealedStore(t, rdb, next, ns).Set(ctx, "new", "v"))
		config.Proof = "new"
		_, err = migrate.Run(ctx, rdb, config)
		require.NoError(t, err)
		c, err := keycheck.New(next, ns)
		require.NoError(t, err)
		require.NoError(t, c.Open(ctx, stored(t, rdb, keycheck.StoredName(ns))))
		require.Equal(t, "v", value(t, migratetest.SealedStore(t, rdb, next, ns), "k"))
	})
}

// An outage of a key service during the proof is an outage.
func TestProofDuringAnOutage(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	const ns = "proof-outage"
	a := sealtest.Keyring(t)
	keyCheck(t, rdb, a, ns)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	down := &downAEAD{AEADWithContext: a, cancel: cancel}
	_, err := migrate.Run(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: down})
	require.Error(t, err)
	require.NotErrorIs(t, err, migrate.ErrWrongKeys)
}

// downAEAD opens its probe and nothing after it.
type downAEAD struct {
	tink.AEADWithContext
	n      atomic.Int64
	cancel func()
}

func (d *downAEAD) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	if n := d.n.Add(1); n > 2 { // the probe opens one value, and another under a wrong name
		if n > 4 {
			d.cancel()
		}
		return nil, errors.New("503 from the key service")
	}
	return d.AEADWithContext.DecryptWithContext(ctx, ct, ad)
}
