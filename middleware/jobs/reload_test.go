package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// late is a keyring that gets its key at a reload.
type late struct {
	known   atomic.Bool
	reloads atomic.Int32
	status  keyset.KeyStatus
	useless bool
}

func (l *late) EncryptWithContext(_ context.Context, p, _ []byte) ([]byte, error) { return p, nil }

func (l *late) DecryptWithContext(_ context.Context, c, _ []byte) ([]byte, error) {
	if !l.known.Load() {
		return nil, &aead.KeyError{KeyID: 7, Status: l.status}
	}
	return c, nil
}

func (l *late) Reload(context.Context) error {
	l.reloads.Add(1)
	time.Sleep(time.Second) // by the clock of the bubble
	if l.useless {
		return errors.New("no source")
	}
	l.known.Store(true)
	return nil
}

func TestUnknownKeyReloadsOnceAndOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &late{status: keyset.Unknown}
		e, err := jobs.NewEncryptor(l)
		require.NoError(t, err)
		sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				opened, err := e.Open(t.Context(), meta, sealed)
				if err != nil || string(opened) != "payload" {
					t.Errorf("%q, %v", opened, err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, l.reloads.Load(), "one flight for all")
	})
}

func TestReloadsAreRateLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &late{status: keyset.Unknown, useless: true}
		e, err := jobs.NewEncryptor(l)
		require.NoError(t, err)
		sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
		require.NoError(t, err)
		for range 100 {
			_, err := e.Open(t.Context(), meta, sealed)
			require.ErrorIs(t, err, jobs.ErrUnknownKey)
			require.False(t, jobs.Permanent(err))
		}
		require.EqualValues(t, 1, l.reloads.Load())
		time.Sleep(11 * time.Second)
		_, err = e.Open(t.Context(), meta, sealed)
		require.ErrorIs(t, err, jobs.ErrUnknownKey)
		require.EqualValues(t, 2, l.reloads.Load())
	})
}

// slowly makes an opening take time: it looks up the key first.
type slowly struct{ *late }

func (s slowly) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	p, err := s.late.DecryptWithContext(ctx, c, ad)
	time.Sleep(5 * time.Second)
	return p, err
}

// An opening that read the old keyset while another one reloaded it tries again, without another reload.
func TestReloadOfOthersCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &late{status: keyset.Unknown}
		e, err := jobs.NewEncryptor(slowly{l})
		require.NoError(t, err)
		sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := e.Open(t.Context(), meta, sealed); err != nil { // reloads at 5 s until 6 s
				t.Error(err)
			}
		})
		wg.Go(func() {
			time.Sleep(4 * time.Second)
			if _, err := e.Open(t.Context(), meta, sealed); err != nil { // fails at 9 s
				t.Error(err)
			}
		})
		wg.Wait()
		require.EqualValues(t, 1, l.reloads.Load())
	})
}

func TestDestroyedKeysAreNotReloaded(t *testing.T) {
	t.Parallel()
	l := &late{status: keyset.Destroyed}
	e, err := jobs.NewEncryptor(l)
	require.NoError(t, err)
	sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
	require.NoError(t, err)
	_, err = e.Open(t.Context(), meta, sealed)
	require.ErrorIs(t, err, jobs.ErrUnknownKey)
	require.True(t, jobs.Permanent(err))
	require.Zero(t, l.reloads.Load())
}

// A key that this worker has loaded as disabled was enabled again. A job under it must not be archived.
func TestDisabledKeysAreReloadedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, useless := range []bool{false, true} {
			l := &late{status: keyset.Disabled, useless: useless}
			e, err := jobs.NewEncryptor(l)
			require.NoError(t, err)
			sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
			require.NoError(t, err)
			for range 2 {
				_, err = e.Open(t.Context(), meta, sealed)
				if useless {
					require.ErrorIs(t, err, jobs.ErrUnknownKey)
					require.True(t, jobs.Permanent(err))
				} else {
					require.NoError(t, err)
				}
			}
			require.EqualValues(t, 1, l.reloads.Load())
		}
	})
}

// During a move from one AEAD to another, a worker of one kind gets jobs of the other. It reloads, tries again later,
// and archives none.
func TestJobsOfAnotherAEADAreRetried(t *testing.T) {
	t.Parallel()
	ring, env := sealtest.Keyring(t), sealtest.Envelope(t)
	for name, c := range map[string]struct{ producer, worker tink.AEADWithContext }{
		"to an envelope":    {ring, env},
		"back to a keyring": {env, ring},
	} {
		sealed, err := sealtest.Encryptor(t, c.producer).Seal(t.Context(), meta, []byte("payload"))
		require.NoError(t, err)
		reloads := 0
		worker := sealtest.Encryptor(t, c.worker, jobs.WithReload(func(context.Context) error { reloads++; return nil }))
		_, err = worker.Open(t.Context(), meta, sealed)
		require.ErrorIs(t, err, jobs.ErrUnknownKey, name)
		require.False(t, jobs.Permanent(err), name)
		require.Equal(t, 1, reloads, name)
	}
}

// throttled is an AEAD that turns every value away, as an Envelope does with unknown data keys under attack.
type throttled struct{ tink.AEADWithContext }

func (throttled) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: the context of the call ended before the data key was decrypted: %w", aead.ErrTooManyDataKeys, context.DeadlineExceeded)
}

// A job whose data key was turned away may be sound. It is not archived, no keyset is reloaded, and metrics show no
// outage.
func TestTooManyDataKeysIsNotPermanent(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	reloads := 0
	e := sealtest.Encryptor(t, throttled{sealtest.Keyring(t)}, jobs.WithReload(func(context.Context) error { reloads++; return nil }),
		jobs.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
	require.NoError(t, err)
	_, err = e.Open(t.Context(), meta, sealed)
	require.ErrorIs(t, err, jobs.ErrTooManyDataKeys)
	require.NotErrorIs(t, err, jobs.ErrKeyServiceUnavailable)
	require.False(t, jobs.Permanent(err))
	require.Zero(t, reloads)
	require.EqualValues(t, 1, jobCounts(t, reader)["open job payload too_many_data_keys"])
}

func TestWithReloadIsUsedInstead(t *testing.T) {
	t.Parallel()
	l := &late{status: keyset.Unknown}
	called := 0
	e, err := jobs.NewEncryptor(l, jobs.WithReload(func(context.Context) error {
		called++
		l.known.Store(true)
		return nil
	}))
	require.NoError(t, err)
	sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
	require.NoError(t, err)
	_, err = e.Open(t.Context(), meta, sealed)
	require.NoError(t, err)
	require.Equal(t, 1, called)
	require.Zero(t, l.reloads.Load())
}

func TestPermanent(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		nil:                           false,
		jobs.ErrNotSealed:             true,
		jobs.ErrUnauthentic:           true,
		jobs.ErrUnsupportedFormat:     true,
		jobs.ErrTooLarge:              true,
		jobs.ErrUnknownKey:            false,
		jobs.ErrKeyServiceUnavailable: false,
		context.Canceled:              false,
		context.DeadlineExceeded:      false,
		errors.New("a connection"):    false,
		errors.Join(jobs.ErrKeyServiceUnavailable, jobs.ErrUnauthentic): false,
	} {
		require.Equal(t, want, jobs.Permanent(err), "%v", err)
	}
}
