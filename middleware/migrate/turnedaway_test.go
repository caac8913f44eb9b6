package migrate_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// turnsAway is an AEAD that refuses, a number of times, each value that it has not sealed itself. An Envelope does so when
// too many data keys are asked for.
type turnsAway struct {
	tink.AEADWithContext
	times  int
	total  atomic.Int64
	notify func(total int64)

	mu   sync.Mutex
	left map[[32]byte]int
}

func (a *turnsAway) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	ct, err := a.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left[sha256.Sum256(ct)] = 0
	return ct, err
}

func (a *turnsAway) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	sum := sha256.Sum256(ct)
	a.mu.Lock()
	n, known := a.left[sum]
	if !known {
		n = a.times
	}
	if n > 0 {
		a.left[sum] = n - 1
	}
	a.mu.Unlock()
	if n == 0 {
		return a.AEADWithContext.DecryptWithContext(ctx, ct, ad)
	}
	if total := a.total.Add(1); a.notify != nil {
		a.notify(total)
	}
	return nil, fmt.Errorf("open: %w", aead.ErrTooManyDataKeys)
}

// A data key that is turned away is asked for again: for the key check, the proof, the checkpoint and each value. No value
// counts as unreadable.
func TestTurnedAwayDataKeysAreAskedForAgain(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		const n, times = 2, 4 // more than the attempts during an outage
		both, _, _ := sealtest.Rotated(t, sealtest.Handle(t))
		now := sealtest.KeyringOf(t, both)
		app := migratetest.SealedStore(t, rdb, now, ns)
		old := sealtest.Keyring(t)
		for i := range n {
			require.NoError(t, migratetest.SealedStore(t, rdb, old, ns).Set(ctx, fmt.Sprint("k", i), "v"))
		}
		require.NoError(t, app.Set(ctx, "proof", "v"))
		keys := func(a tink.AEADWithContext) *turnsAway {
			return &turnsAway{AEADWithContext: a, times: times, left: make(map[[32]byte]int)}
		}

		r := audited(t, rdb, audit.Config{Namespace: ns, Keys: []tink.AEADWithContext{keys(now), keys(old)}})
		require.EqualValues(t, n+1, r.Total.Sealed.Values)
		require.Zero(t, r.Total.Unreadable.Values)

		keyCheck(t, rdb, now, ns)
		config := migrate.Config{
			Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Proof: "proof",
			Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
		}
		run := func() *migrate.Report {
			fresh := keys(now)
			config.Keys, config.OldKeys = fresh, keys(old)
			report, err := migrate.Run(ctx, rdb, config)
			require.NoError(t, err)
			require.True(t, report.Done(), "%+v", report)
			require.Positive(t, fresh.total.Load())
			return report
		}
		require.EqualValues(t, n, run().Written)
		config.Operation = migrate.Unseal
		require.EqualValues(t, n+1, run().Written)
	})
}

// A run or an audit whose data keys are always turned away is not complete, and calls no value unreadable.
func TestTurnedAwayForever(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	const ns, n = "turned-away", 5
	a := sealtest.Keyring(t)
	for i := range n {
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns).Set(t.Context(), fmt.Sprint("k", i), "v"))
	}
	for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal, migrate.Unseal, 0} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		keys := &turnsAway{AEADWithContext: a, times: 1 << 30, left: make(map[[32]byte]int), notify: func(total int64) {
			if total > 4 {
				cancel()
			}
		}}
		if o == 0 {
			r, err := audit.Run(ctx, rdb, audit.Config{Namespace: ns, Keys: []tink.AEADWithContext{keys}})
			require.Error(t, err)
			require.False(t, r.Complete)
			require.Zero(t, r.Total.Unreadable.Values)
			answer, _ := r.AnythingPlaintext()
			require.Equal(t, audit.Unknown, answer)
			continue
		}
		r, err := migratetest.Unproven(ctx, rdb, migrate.Config{Operation: o, From: migrate.Space{Namespace: ns}, Keys: keys, OldKeys: sealtest.Keyring(t)})
		require.Error(t, err)
		require.NotErrorIs(t, err, migrate.ErrWrongKeys)
		require.False(t, r.Complete)
		require.False(t, r.Done())
		require.Zero(t, r.Unreadable+r.UnknownKey+r.Written)
	}
}

// Planted values under more made-up data keys than an Envelope asks for at once delay a run. They do not end it, and the
// honest values under many data keys are all done.
func TestPlantedDataKeysDelayARun(t *testing.T) {
	t.Parallel()
	rdb, ctx := shared.Single.Client(t), t.Context()
	const ns, honest, planted = "planted-keys", 100, 1400
	kms := aeadtest.NewKeyService(t)
	var sample []byte
	for i := range honest {
		e, err := aead.NewEnvelope(ctx, kms)
		require.NoError(t, err)
		require.NoError(t, migratetest.SealedStore(t, rdb, e, ns).Set(ctx, fmt.Sprint("k", i), "v"))
		require.NoError(t, e.Close())
		sample = stored(t, rdb, name(ns, i))
	}
	pipe := rdb.Pipeline()
	for i := range planted {
		forged := []byte(strings.Clone(string(sample)))
		copy(forged[30:], fmt.Sprintf("%08d", i)) // in the wrapped data key
		pipe.Set(ctx, fmt.Sprint(ns, ":planted", i), forged, 0)
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	fresh := func() *aead.Envelope {
		e, err := aead.NewEnvelope(ctx, kms)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	}
	keys := fresh()
	r := audited(t, rdb, audit.Config{Namespace: ns, Keys: []tink.AEADWithContext{keys}})
	require.EqualValues(t, planted, r.Total.Unreadable.Values)
	require.EqualValues(t, honest+planted, r.Total.Sealed.Values)
	require.Positive(t, keys.Stats().TooManyDataKeys, "some were turned away")
}
