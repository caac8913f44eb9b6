package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// plaintextAnswer is what an audit says, and why.
func plaintextAnswer(t testing.TB, rdb redis.UniversalClient, c audit.Config) (audit.Answer, string, *audit.Report) {
	t.Helper()
	r := audited(t, rdb, c)
	answer, why := r.AnythingPlaintext()
	switch answer {
	case audit.Unknown:
		require.Equal(t, why, r.Doubts, "the JSON names them")
	case audit.No:
		require.Empty(t, r.Doubts)
	}
	return answer, strings.Join(why, "\n"), r
}

// All databases are looked at, through Sentinel too.
func TestAuditLooksAtAllDatabases(t *testing.T) {
	t.Parallel()
	for name, rdb := range map[string]*redis.Client{
		"single":   redistest.Start(t).Client(t),
		"sentinel": redistest.StartSentinel(t).Client(t),
	} {
		ctx := t.Context()
		both, old, _ := sealtest.Rotated(t, sealtest.Handle(t))
		ring := sealtest.KeyringOf(t, both)
		require.NoError(t, migratetest.SealedStore(t, rdb, ring, "shop").Set(ctx, "a", "v"))
		answer, why, r := plaintextAnswer(t, rdb, audit.Config{})
		require.Equal(t, audit.No, answer, why)
		require.Equal(t, []int{0}, r.Databases)

		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Do(ctx, "select", 7)
			p.Set(ctx, "b", "plaintext", 0)
			p.Do(ctx, "select", 0)
			return nil
		})
		require.NoError(t, err)
		var last audit.Progress
		answer, why, r = plaintextAnswer(t, rdb, audit.Config{Progress: func(p audit.Progress) { last = p }})
		require.Equal(t, audit.Yes, answer, "%s: %s", name, why)
		require.Equal(t, []int{0, 7}, r.Databases)
		require.EqualValues(t, 2, r.Seen)
		require.Contains(t, r.Scope(), "databases 0, 7 on 1 master, all names")
		require.InDelta(t, 1, last.Fraction, 1e-9)
		require.EqualValues(t, 1, last.Plaintext)

		// Left out on purpose: it says so, and does not answer for keys.
		conditions := audit.Conditions{Keyset: ring.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)}
		for remedy, c := range map[string]audit.Config{"Config.OneDatabase": {OneDatabase: true}, "Config.Namespace and Config.Prefix": {Prefix: "shop:"}} {
			answer, why, r = plaintextAnswer(t, rdb, c)
			require.Equal(t, audit.No, answer, why)
			require.Equal(t, []int{7}, r.OtherDatabases)
			require.Contains(t, r.Scope(), "NOT database 7 of the same server")
			may, reasons := r.MayDestroy(old, conditions)
			require.Equal(t, audit.Unknown, may)
			require.Contains(t, strings.Join(reasons, "\n"), "databases [7] of the server were not examined (run the audit without "+remedy+")")
		}
		may, reasons := audited(t, rdb, audit.Config{}).MayDestroy(old, conditions)
		require.Equal(t, audit.Yes, may, reasons)
	}
}

// plain hides the options of a client, so that no other database can be selected.
type plain struct{ redis.UniversalClient }

// A database that cannot be looked at is a doubt.
func TestAuditOfDatabasesOutOfReach(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "auditor", Password: "secret",
		Rules: "~* +scan +info +strlen +getrange +type +ping +hello +client +select +set"})
	rdb := server.Client(t)
	o := *server.ClientOptions()
	o.DB = 3
	other := redis.NewClient(&o)
	defer other.Close()
	require.NoError(t, other.Set(t.Context(), "b", "plaintext", 0).Err())
	answer, why, _ := plaintextAnswer(t, plain{rdb}, audit.Config{})
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, why, "databases [3]")
	answer, _, _ = plaintextAnswer(t, rdb, audit.Config{})
	require.Equal(t, audit.Yes, answer)

	server = redistest.StartWith(t, redistest.Options{User: "auditor", Password: "secret",
		Rules: "~* +scan +info +strlen +getrange +type +ping +hello +client +swapdb +set"})
	rdb = server.Client(t)
	require.NoError(t, rdb.Set(t.Context(), "b", "plaintext", 0).Err())
	require.NoError(t, rdb.Do(t.Context(), "swapdb", 0, 3).Err())
	answer, why, _ = plaintextAnswer(t, rdb, audit.Config{})
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, why, "+select")

	// It may hold names that are hidden under the older PRF key.
	ids, sets := prfKeys(t)
	require.NoError(t, rdb.Set(t.Context(), "b", "plaintext", 0).Err())
	r := audited(t, rdb, audit.Config{HiddenKeys: sets[1]})
	require.Equal(t, []int{3}, r.OtherDatabases)
	answer, reasons := r.MayDisable(ids[0])
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, strings.Join(reasons, "\n"), "databases [3]")

	// The same holds if it is left out on purpose. An audit of a namespace answers for that namespace.
	answer, reasons = audited(t, rdb, audit.Config{OneDatabase: true, HiddenKeys: sets[1]}).MayDisable(ids[0])
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, strings.Join(reasons, "\n"), "databases [3]")
	require.NoError(t, rdb.Set(t.Context(), "shop:b", "plaintext", 0).Err())
	answer, reasons = audited(t, rdb, audit.Config{Namespace: "shop", HiddenKeys: sets[1]}).MayDisable(ids[0])
	require.Equal(t, audit.Yes, answer, reasons)
}

// An audit that finds nothing does not answer that nothing is plaintext.
func TestAuditOfNothing(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	a := sealtest.Keyring(t)
	for _, c := range []audit.Config{{}, {Namespaces: []string{"shop"}}, {OneDatabase: true}} {
		answer, why, r := plaintextAnswer(t, rdb, c)
		require.Equal(t, audit.Unknown, answer)
		require.Contains(t, why, "no name was found")
		answer, reasons := r.AnythingSealed()
		require.Equal(t, audit.Unknown, answer)
		require.Contains(t, strings.Join(reasons, "\n"), "no name was found")
	}
	require.NoError(t, migratetest.SealedStore(t, rdb, a, "shop").Set(t.Context(), "a", "v"))
	answer, why, _ := plaintextAnswer(t, rdb, audit.Config{})
	require.Equal(t, audit.No, answer, why)
	for _, c := range []audit.Config{{Prefix: "shpo:"}, {Prefix: "shop:a:"}} {
		answer, why, _ = plaintextAnswer(t, rdb, c)
		require.Equal(t, audit.Unknown, answer)
		require.Contains(t, why, "check Config.Namespace, Config.Prefix and the server")
	}

	// A namespace is missing, or the keys are those of another application: values that do not open may be anything.
	keys := []tink.AEADWithContext{a}
	answer, why, _ = plaintextAnswer(t, rdb, audit.Config{Keys: keys, Namespaces: []string{"shop"}})
	require.Equal(t, audit.No, answer, why)
	for _, c := range []audit.Config{
		{Keys: keys}, {Keys: keys, Namespaces: []string{"store"}},
	} {
		answer, why, _ = plaintextAnswer(t, rdb, c)
		require.Equal(t, audit.Unknown, answer)
		require.Contains(t, why, "do not open")
	}
	answer, why, _ = plaintextAnswer(t, rdb, audit.Config{Keys: []tink.AEADWithContext{sealtest.Keyring(t)}, Namespaces: []string{"shop"}})
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, why, "is not among the given keys")
}

// The answer names the key that is not given. A keyset that was forgotten is the usual reason.
func TestAuditNamesTheKeyThatIsNotGiven(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	kek, given := sealtest.Keyring(t), sealtest.Keyring(t)
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, kek), "shop").Set(t.Context(), "a", "v"))
	config := audit.Config{Keys: []tink.AEADWithContext{sealtest.EnvelopeOf(t, given), given}, Namespaces: []string{"shop"}}
	answer, why, _ := plaintextAnswer(t, rdb, config)
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, why, fmt.Sprintf("1 values are sealed under key %d of a KEK, which is not among the given keys (give its keyset, too)", kek.Keys()[0].ID))
	require.NotContains(t, why, "do not open")

	// A value that was moved does not open either, although its key is given.
	config.Keys, config.Namespaces = []tink.AEADWithContext{sealtest.EnvelopeOf(t, kek), kek}, []string{"store"}
	_, why, _ = plaintextAnswer(t, rdb, config)
	require.NotContains(t, why, "is not among the given keys")
	require.Contains(t, why, "do not open")
}

// An audit can leave out the names that a migration leaves out, and says so.
func TestAuditExclude(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	both, old, _ := sealtest.Rotated(t, sealtest.Handle(t))
	ring := sealtest.KeyringOf(t, both)
	require.NoError(t, migratetest.SealedStore(t, rdb, ring, "shop").Set(ctx, "a", "v"))
	require.NoError(t, rdb.MSet(ctx, "shop:count:1", "1", "shop:count:2", "2", "shop:lock:1", "x").Err())
	answer, _, _ := plaintextAnswer(t, rdb, audit.Config{Exclude: []string{"shop:count:"}})
	require.Equal(t, audit.Yes, answer, "one more is in plaintext")
	config := audit.Config{Exclude: []string{"shop:count:", "shop:lock:"}, Samples: 9}
	answer, why, r := plaintextAnswer(t, rdb, config)
	require.Equal(t, audit.No, answer, why)
	require.EqualValues(t, 4, r.Seen)
	require.EqualValues(t, 3, r.Excluded)
	require.Contains(t, r.Scope(), `NOT names that start with "shop:count:" or "shop:lock:", which were excluded (3)`)

	conditions := audit.Conditions{Keyset: ring.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)}
	may, reasons := r.MayDestroy(old, conditions)
	require.Equal(t, audit.Unknown, may, "they may be sealed under any key")
	require.Contains(t, strings.Join(reasons, "\n"), "excluded")
	may, reasons = audited(t, rdb, audit.Config{}).MayDestroy(old, conditions)
	require.Equal(t, audit.Yes, may, reasons)

	answer, why, r = plaintextAnswer(t, rdb, audit.Config{Exclude: []string{"shop:"}})
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, why, "all names were excluded")
	answer, _ = r.AnythingSealed()
	require.Equal(t, audit.Unknown, answer)
	_, err := audit.Run(ctx, rdb, audit.Config{Exclude: []string{""}})
	require.ErrorIs(t, err, audit.ErrConfig)
}

// Names that belong to others, by the caller's word, do not keep a key from being destroyed.
func TestAuditLeavesOutOtherApplications(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	both, old, _ := sealtest.Rotated(t, sealtest.Handle(t))
	ring := sealtest.KeyringOf(t, both)
	require.NoError(t, migratetest.SealedStore(t, rdb, ring, "shop").Set(ctx, "a", "v"))
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), "crm").Set(ctx, "a", "v"))
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, nameless{KEK: sealtest.Keyring(t), Start: "kms:"}), "web").Set(ctx, "a", "v"))
	conditions := audit.Conditions{Keyset: ring.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)}
	may, reasons := audited(t, rdb, audit.Config{OtherApplications: []string{"crm:"}}).MayDestroy(old, conditions)
	require.Equal(t, audit.Unknown, may)
	require.Contains(t, strings.Join(reasons, "\n"), "do not show the key that sealed them")
	may, _ = audited(t, rdb, audit.Config{OtherApplications: []string{"web:"}}).MayDestroy(old, conditions)
	require.Equal(t, audit.Unknown, may)
	r := audited(t, rdb, audit.Config{OtherApplications: []string{"crm:", "web:"}, Namespaces: []string{"shop"}})
	may, reasons = r.MayDestroy(old, conditions)
	require.Equal(t, audit.Yes, may, reasons)
	require.EqualValues(t, 2, r.OtherNames)
	require.Contains(t, r.Scope(), `NOT names that start with "crm:" or "web:", which belong to other applications (2)`)

	// Only the names count: a value under the same key with another name is found.
	older := sealtest.KeyringOf(t, sealtest.Handle(t))
	require.NoError(t, migratetest.SealedStore(t, rdb, older, "shop").Set(ctx, "b", "v"))
	may, _ = audited(t, rdb, audit.Config{OtherApplications: []string{"crm:", "web:"}}).MayDestroy(older.Keys()[0].ID, conditions)
	require.Equal(t, audit.No, may)
	may, reasons = audited(t, rdb, audit.Config{OtherApplications: []string{"crm:", "web:", "shop:"}}).MayDestroy(old, conditions)
	require.Equal(t, audit.Unknown, may)
	require.Contains(t, strings.Join(reasons, "\n"), "all names were excluded")
	for text, c := range map[string]audit.Config{
		"Config.OtherApplications[0] is empty":                        {OtherApplications: []string{""}},
		"Config.OtherApplications covers Config.Namespaces[0], which": {OtherApplications: []string{"sh"}, Namespaces: []string{"shop"}},
		"Config.Namespace: the namespace":                             {Namespace: "a:b"},
		"Config.Namespaces: the namespace":                            {Namespace: "a", Namespaces: []string{"a:b"}},
	} {
		_, err := audit.Run(ctx, rdb, c)
		require.ErrorIs(t, err, audit.ErrConfig)
		require.ErrorContains(t, err, text)
	}
}

// A replica is refused, unless it is meant; one that does not reach its master always.
func TestAuditOfAReplica(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	ctx := t.Context()
	rdb := sentinel.Replica(t).Client(t)
	a := sealtest.Keyring(t)
	require.NoError(t, migratetest.SealedStore(t, sentinel.Client(t), a, "shop").Set(ctx, "a", "v"))
	require.Eventually(t, func() bool { return rdb.DBSize(ctx).Val() == 1 }, 2*time.Minute, 10*time.Millisecond)

	var logs sealtest.Logs
	_, err := audit.Run(ctx, rdb, audit.Config{Logger: logs.Logger()})
	require.ErrorContains(t, err, "is a replica")
	require.ErrorIs(t, err, audit.ErrConfig)
	_, err = migratetest.Unproven(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: a, Logger: logs.Logger()})
	require.ErrorContains(t, err, "is a replica")
	require.ErrorIs(t, err, migrate.ErrConfig)
	require.NotContains(t, logs.String(), "tried again", "it does not go away by waiting")

	answer, why, r := plaintextAnswer(t, rdb, audit.Config{Replica: true})
	require.Equal(t, audit.No, answer, why)
	require.Contains(t, r.Scope(), "replica")
	may, _ := r.MayDestroy(1, audit.Conditions{Keyset: sealtest.Keyring(t).Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)})
	require.Equal(t, audit.Unknown, may)

	alone := redistest.StartWith(t, redistest.Options{Args: []string{"--replicaof", "127.0.0.1 1"}}).Client(t)
	r, err = audit.Run(ctx, alone, audit.Config{Replica: true})
	require.EqualError(t, err, "audit: the server is a replica that is not connected to its master, so it may hold old data")
	answer, _ = r.AnythingPlaintext()
	require.Equal(t, audit.Unknown, answer)
}

// A client that reads from replicas may miss an entry that its master has.
func TestNoReadingFromReplicas(t *testing.T) {
	t.Parallel()
	for _, change := range []func(o *redis.ClusterOptions){
		func(o *redis.ClusterOptions) { o.ReadOnly = true },
		func(o *redis.ClusterOptions) { o.RouteRandomly = true },
		func(o *redis.ClusterOptions) { o.RouteByLatency = true },
	} {
		o := *shared.Cluster.ClientOptions()
		change(&o)
		rdb := redis.NewClusterClient(&o)
		_, err := audit.Run(t.Context(), rdb, audit.Config{})
		require.ErrorContains(t, err, "reads from replicas")
		_, err = migratetest.Unproven(t.Context(), rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "n"}, Keys: sealtest.Keyring(t)})
		require.ErrorContains(t, err, "reads from replicas")
		require.NoError(t, rdb.Close())
	}
}

// Values that were counted before a restart are not counted twice.
func TestRestartDuringAnAudit(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	rdb := server.Client(t)
	const n = 2000
	fill(t, rdb, "ns", n)
	want := audited(t, rdb, audit.Config{})
	var once atomic.Bool
	failed, control := make(chan error, 1), new(audit.Control)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := audit.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond}), rdb, audit.Config{
		Rate: n / 8, Control: control, // not at its end before the server restarts
		Progress: func(p audit.Progress) {
			if p.Seen > n/3 && once.CompareAndSwap(false, true) {
				failed <- errors.Join(server.Kill(), server.Restart())
				control.SetRate(0)
			}
		},
	})
	require.NoError(t, errors.Join(<-failed, err))
	require.Equal(t, 1, r.Restarts)
	require.Equal(t, want.Total, r.Total)
	require.Equal(t, want.Groups, r.Groups)
	require.Equal(t, want.Seen, r.Seen)
	var text strings.Builder
	require.NoError(t, r.WriteText(&text))
	require.Contains(t, text.String(), "restarted")
}

// SWAPDB brings entries into a database that was scanned. The audit must not answer no without them. It still reports what it
// found: on a shared server other applications may call these commands all the time.
func TestDatabasesSwappedDuringAnAudit(t *testing.T) {
	t.Parallel()
	for name, commands := range map[string][][]any{
		"swapdb": {{"swapdb", 0, 7}},
		"move":   {{"move", "plain", 0}},
		"reset":  {{"swapdb", 0, 7}, {"config", "resetstat"}},
	} {
		rdb := redistest.Start(t).Client(t)
		ctx := t.Context()
		other, err := rediswalk.New(rdb)
		require.NoError(t, err)
		seventh, err := other.At(ctx, 7)
		require.NoError(t, err)
		defer seventh.Client.Close()
		const n = 400
		app := migratetest.SealedStore(t, rdb, sealtest.Keyring(t), "shop")
		for i := range n {
			require.NoError(t, app.Set(ctx, fmt.Sprint("k", i), "v"))
		}
		require.NoError(t, seventh.Client.Set(ctx, "plain", "v", 0).Err())
		var once atomic.Bool
		failed, control := make(chan error, 1), new(audit.Control)
		r, err := audit.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond}), rdb, audit.Config{
			Rate: n / 8, Control: control, // not at its end before the command
			Progress: func(p audit.Progress) {
				if p.Seen > n/8 && once.CompareAndSwap(false, true) {
					_, err := seventh.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
						for _, c := range commands {
							p.Do(ctx, c...)
						}
						return nil
					})
					failed <- err
					control.SetRate(0)
				}
			},
		})
		require.NoError(t, <-failed, name)
		require.NoError(t, err, name)
		require.True(t, r.Complete, name)
		require.True(t, r.Moved, name)
		require.Positive(t, r.Total.Sealed.Values, name)
		require.Contains(t, strings.Join(r.Doubts, "\n"), "SWAPDB, MOVE or CONFIG RESETSTAT may have been called", name)
		answer, _ := r.AnythingPlaintext() // yes if the entry was found before the command
		require.NotEqual(t, audit.No, answer, name)
		// A call before the audit does not count.
		answer, why, r := plaintextAnswer(t, rdb, audit.Config{})
		require.Equal(t, audit.Yes, answer, why)
		require.False(t, r.Moved, name)
	}
}

// A server may restart after the audit has examined one of its databases. The database may hold other data then, so the
// audit does not answer, and says what to do.
func TestRestartBetweenDatabases(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	rdb := server.Client(t)
	a := sealtest.Keyring(t)
	require.NoError(t, migratetest.SealedStore(t, rdb, a, "shop").Set(t.Context(), "a", "v"))
	o := *server.ClientOptions()
	o.DB = 7
	other := redis.NewClient(&o)
	defer other.Close()
	const n = 1000
	app := migratetest.SealedStore(t, other, a, "shop")
	for i := range n {
		require.NoError(t, app.Set(t.Context(), fmt.Sprint("k", i), "v"))
	}
	var once atomic.Bool
	failed, control := make(chan error, 1), new(audit.Control)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := audit.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond}), rdb, audit.Config{
		Rate: n / 8, Control: control, // not at its end before the server restarts
		Progress: func(p audit.Progress) {
			if p.Seen > n/3 && once.CompareAndSwap(false, true) {
				failed <- errors.Join(server.Kill(), server.Restart())
				control.SetRate(0)
			}
		},
	})
	require.NoError(t, <-failed)
	require.ErrorContains(t, err, "between the scans of two databases (run the audit again)")
	require.False(t, r.Complete)
	require.Equal(t, []int{0, 7}, r.Databases)
	answer, why := r.AnythingPlaintext()
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, strings.Join(why, "; "), "audit again")
	answer, reasons, _ := plaintextAnswer(t, rdb, audit.Config{})
	require.Equal(t, audit.No, answer, reasons)
}
