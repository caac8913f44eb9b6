package migrate_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// A run is paused and resumed while it runs, gets another rate, and its progress says so from the first call on.
func TestControl(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n = 200
	fill(t, rdb, "ns", n)
	control := new(migrate.Control)
	control.Pause()
	var phases []string
	var paused atomic.Bool
	config := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), Rate: 0.001, Control: control,
		Progress: func(p migrate.Progress) {
			phases = append(phases, p.Phase)
			if len(p.Paused) > 0 && paused.CompareAndSwap(false, true) {
				if p.Written > 0 {
					t.Error("it wrote while it was paused")
				}
				control.SetRate(0)
				control.Resume()
			}
		},
	}
	ctx := tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: 1e6})
	r := runBy(ctx, t, rdb, config)
	require.True(t, r.Done(), "%+v", r)
	require.True(t, paused.Load())
	require.Equal(t, "checking the keys", phases[0])
	require.True(t, slices.Contains(phases, "entries"))
}

// A run waits while the latency of the server is above the bound.
func TestMaxLatency(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	fill(t, rdb, "ns", 200)
	ctx, cancel := context.WithCancel(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: 1e6}))
	defer cancel()
	_, err := migratetest.Unproven(ctx, rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), MaxLatency: 1, Rate: 20, // entries a second
		Progress: func(p migrate.Progress) {
			if slices.Contains(p.Paused, "latency") {
				cancel()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled, "no PING takes a nanosecond")
}

// thirdFails is an AEAD of a third party whose service fails every third call to open.
type thirdFails struct {
	tink.AEADWithContext
	n atomic.Int64
}

func (f *thirdFails) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	if n := f.n.Add(1); n > 2 && n%3 == 0 {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	return f.AEADWithContext.DecryptWithContext(ctx, ct, ad)
}

// An AEAD of a third party that fails now and then is asked again. No sound value is called unreadable.
func TestThirdPartyOutage(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	const ns, n = "third-party", 60
	both, _, _ := sealtest.Rotated(t, sealtest.Handle(t))
	old, now := sealtest.Keyring(t), sealtest.KeyringOf(t, both)
	for i := range n {
		require.NoError(t, migratetest.SealedStore(t, rdb, old, ns).Set(t.Context(), name("k", i), "v"))
	}
	flapping := &thirdFails{AEADWithContext: old}
	r := run(t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: now, OldKeys: flapping})
	require.True(t, r.Done(), "%+v", r)
	require.EqualValues(t, n, r.Written)
	require.Zero(t, r.Unreadable+r.UnknownKey)
}
