package middleware_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// process returns the Envelope of one process over the key service that all processes share.
func process(t testing.TB, service *aeadtest.KeyService, opts ...aead.EnvelopeOption) *aead.Envelope {
	t.Helper()
	e, err := aead.NewEnvelope(t.Context(), service, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// requireAllSealed fails if the store holds a plaintext value.
func requireAllSealed(t testing.TB, m *memorystore.Store) {
	t.Helper()
	for key, err := range m.Keys(t.Context(), "") {
		require.NoError(t, err)
		stored, err := m.GetBytes(t.Context(), key)
		require.NoError(t, err)
		_, err = middleware.Inspect(stored)
		require.NoError(t, err, "in plaintext")
	}
}

func TestKeyServiceSlow(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	writer, m := process(t, service), memory(t)
	s := sealed(t, m, writer)
	for i := range 100 {
		require.NoError(t, s.Set(t.Context(), fmt.Sprint(i), "value"))
	}
	reader := process(t, service)
	encrypts, decrypts := service.Encrypts(), service.Decrypts()

	service.Delay(300 * time.Millisecond)
	r := sealed(t, m, reader)
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			v, err := r.Get(t.Context(), fmt.Sprint(i%100))
			if err != nil || v != "value" {
				t.Errorf("Get: %v, %v", v, err)
			}
			if err := r.Set(t.Context(), fmt.Sprint("mine", i), "value"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, decrypts+1, service.Decrypts(), "a thousand readers of values under one data key ask once")
	require.Equal(t, encrypts, service.Encrypts(), "no call waits for a data key to write under")
	require.LessOrEqual(t, service.MostAtOnce(), 1)
}

func TestKeyServiceFails(t *testing.T) {
	t.Parallel()
	const limit = 200
	service := aeadtest.NewKeyService(t)
	e, m := process(t, service, aead.WithMaxMessages(limit)), memory(t)
	s := sealed(t, m, e, middleware.WithMissOnOpenFailure())
	require.NoError(t, s.Set(t.Context(), "before", "value"))

	encrypts := service.Encrypts()
	service.Fail(aeadtest.ErrOutage)
	const writers = 2000
	var written atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for i := range writers {
		all.Go(func() {
			switch err := s.Set(t.Context(), fmt.Sprint(i), "value"); {
			case err == nil:
				written.Add(1)
			case !errors.Is(err, middleware.ErrKeyServiceUnavailable) || !errors.Is(err, aeadtest.ErrOutage):
				t.Errorf("an undocumented error: %v", err)
			}
		})
	}
	all.Wait()
	require.Equal(t, int64(limit-1), written.Load(), "writes go on to the data key's limit, and not past it")
	// Attempts are at least 80 ms apart, with growing pauses.
	require.LessOrEqual(t, service.Encrypts()-encrypts, 2+int(time.Since(start)/(80*time.Millisecond)), "calls to a service that is down")
	requireAllSealed(t, m)

	v, err := s.Get(t.Context(), "before")
	require.NoError(t, err, "what is known stays readable")
	require.Equal(t, "value", v)
	ok, err := s.SetIfNotExists(t.Context(), "new", "value")
	require.ErrorIs(t, err, middleware.ErrKeyServiceUnavailable)
	require.False(t, ok)
	require.ErrorIs(t, s.Check(t.Context()), middleware.ErrKeyServiceUnavailable, "readiness tells")

	service.Fail(nil)
	eventually(t, "writing after the outage", func(ctx context.Context) error { return s.Set(ctx, "after", "value") })
	requireAllSealed(t, m)
}

// Another process has the data key of the values. This process cannot get it.
func TestKeyServiceDownForAReader(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	m := memory(t)
	require.NoError(t, sealed(t, m, process(t, service)).Set(t.Context(), "k", "value"))
	reader := process(t, service)
	stored := raw(t, m, "k")

	outage := aeadtest.ErrOutage
	ambiguous := fmt.Errorf("%w: %w: %w", aeadtest.ErrOutage, aead.ErrKeyServiceUnavailable, aead.ErrUnauthentic)
	for _, c := range []struct {
		fail error
		opts []middleware.Option
	}{
		{outage, nil},
		{outage, []middleware.Option{middleware.WithMissOnOpenFailure()}},
		{ambiguous, []middleware.Option{middleware.WithMissOnOpenFailure()}},
	} {
		service.Fail(c.fail)
		s := sealed(t, m, reader, c.opts...)
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrKeyServiceUnavailable)
		require.ErrorIs(t, err, aeadtest.ErrOutage)
		require.NotErrorIs(t, err, store.NotFound{}, "a sound value must not be loaded and written again")
		if !errors.Is(c.fail, aead.ErrUnauthentic) {
			require.NotErrorIs(t, err, middleware.ErrUnauthentic)
		}
		written, err := s.SetIfNotExists(t.Context(), "k", "another")
		if !errors.Is(err, middleware.ErrKeyServiceUnavailable) {
			require.NoError(t, err)
		}
		require.False(t, written)
		require.Equal(t, stored, raw(t, m, "k"))
	}
	service.Fail(nil)
	eventually(t, "reading after the outage", func(ctx context.Context) error {
		v, err := sealed(t, m, reader).Get(ctx, "k")
		if err == nil {
			require.Equal(t, "value", v)
		}
		return err
	})

	service.Fail(aeadtest.ErrOutage)
	_, err := aead.NewEnvelope(t.Context(), service)
	require.ErrorIs(t, err, middleware.ErrKeyServiceUnavailable, "a process that starts now says so")
}

// While the key service fails every other moment, writes go on between the outages. All that were acknowledged open for other
// processes.
func TestKeyServiceFlaps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, writers, writes = 64, 16, 16
		service := aeadtest.NewKeyService(t)
		m := memory(t)
		s := sealed(t, m, process(t, service, aead.WithMaxMessages(limit)))
		encrypts, began := service.Encrypts(), time.Now()
		stop := make(chan struct{})
		var flapping, writing sync.WaitGroup
		flapping.Go(func() {
			defer service.Fail(nil)
			for up := false; ; up = !up {
				state := aeadtest.ErrOutage
				if up {
					state = nil
				}
				service.Fail(state)
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
		for g := range writers {
			writing.Go(func() {
				for i := 0; i < writes && time.Since(began) < time.Minute; { // of the bubble's clock
					key := fmt.Sprintf("%d/%d", g, i)
					switch err := s.Set(t.Context(), key, key); {
					case err == nil:
						i++
					case !errors.Is(err, middleware.ErrKeyServiceUnavailable):
						t.Errorf("an undocumented error: %v", err)
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		writing.Wait()
		close(stop)
		flapping.Wait()
		took := time.Since(began)
		require.LessOrEqual(t, service.Encrypts()-encrypts, writers*writes*4/(3*limit)+2+int(took/(80*time.Millisecond)), "calls in %v", took)
		requireAllSealed(t, m)
		reader := sealed(t, m, process(t, service))
		for g := range writers {
			for i := range writes {
				key := fmt.Sprintf("%d/%d", g, i)
				v, err := reader.Get(t.Context(), key)
				require.NoError(t, err, "acknowledged by another process")
				require.Equal(t, key, v)
			}
		}
	})
}

// The service accepts calls and never answers.
func TestKeyServiceGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		m := memory(t)
		require.NoError(t, sealed(t, m, process(t, service)).Set(t.Context(), "k", "value"))
		e, err := aead.NewEnvelope(t.Context(), service, aead.WithMaxMessages(1))
		require.NoError(t, err)
		s := sealed(t, m, e)
		decrypts := service.Decrypts()
		service.Gone(true)
		require.NoError(t, s.Set(t.Context(), "mine", "value")) // the first data key is used up, and the envelope asks for its successor

		for name, operation := range map[string]func(ctx context.Context) error{
			"Get": func(ctx context.Context) error { _, err := s.Get(ctx, "k"); return err },
			"Set": func(ctx context.Context) error { return s.Set(ctx, "new", "value") },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			start := time.Now()
			err := operation(ctx)
			require.ErrorIs(t, err, middleware.ErrKeyServiceUnavailable, name)
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Equal(t, 50*time.Millisecond, time.Since(start), "%s waits no longer than its caller", name)
			cancel()

			ctx, cancel = context.WithCancel(t.Context())
			timer := time.AfterFunc(50*time.Millisecond, cancel)
			err = operation(ctx)
			require.ErrorIs(t, err, context.Canceled, name)
			require.NotErrorIs(t, err, store.NotFound{}, name)
			timer.Stop()

			cancel()
			require.ErrorIs(t, operation(ctx), context.Canceled, "%s with a ctx that was over before", name)
		}
		require.LessOrEqual(t, service.Decrypts()-decrypts, 1, "those who come while one asks wait for its answer")
		require.ErrorIs(t, func() error { _, err := m.GetBytes(t.Context(), "new"); return err }(), store.NotFound{}, "nothing was written")
		requireAllSealed(t, m)

		start := time.Now()
		require.NoError(t, e.Close())
		require.Zero(t, time.Since(start), "Close does not wait for a service that is gone")
		_, err = s.Get(t.Context(), "k")
		require.ErrorIs(t, err, aead.ErrClosed)
		require.ErrorIs(t, s.Set(t.Context(), "k", "value"), aead.ErrClosed)
	})
}

// A caller that gives up does not fail the others that wait for the same data key.
func TestKeyServiceCallOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		m := memory(t)
		require.NoError(t, sealed(t, m, process(t, service)).Set(t.Context(), "k", "value"))
		s := sealed(t, m, process(t, service))
		decrypts := service.Decrypts()
		service.Delay(300 * time.Millisecond)
		impatient, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() { _, err := s.Get(impatient, "k"); gaveUp <- err }()
		synctest.Wait()
		require.Equal(t, decrypts+1, service.Decrypts())
		cancel()
		require.ErrorIs(t, <-gaveUp, context.Canceled)
		v, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "value", v)
		require.Equal(t, decrypts+1, service.Decrypts())
	})
}

// An attacker plants values with data keys that the KEK never wrapped.
func TestGarbageDataKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service, m := aeadtest.NewKeyService(t), memory(t)
		s := sealed(t, m, process(t, service))
		forgiving := sealed(t, m, process(t, service), middleware.WithMissOnOpenFailure())
		require.NoError(t, s.Set(t.Context(), "sound", "value"))
		sound := raw(t, m, "sound")
		info, err := middleware.Inspect(sound)
		require.NoError(t, err)
		const planted = 3000
		for i := range planted {
			require.NoError(t, m.Set(t.Context(), fmt.Sprint("garbage", i), garbage(sound, info.HeaderBytes, 1+i%200)))
		}
		_, err = forgiving.Get(t.Context(), "sound") // its data key is known from here on
		require.NoError(t, err)

		service.Delay(2 * time.Millisecond)
		decrypts, start := service.Decrypts(), time.Now()
		var all sync.WaitGroup
		var turnedAway atomic.Int64
		const deadline = 2 * time.Second
		ctx := within(t, deadline)
		for i := range planted {
			all.Go(func() {
				_, err := s.Get(ctx, fmt.Sprint("garbage", i))
				switch {
				case errors.Is(err, middleware.ErrTooManyDataKeys) && !errors.Is(err, middleware.ErrKeyServiceUnavailable):
					turnedAway.Add(1)
				case !errors.Is(err, middleware.ErrUnauthentic):
					t.Errorf("an undocumented error: %v", err)
				}
				if i%8 == 0 {
					if v, err := s.Get(t.Context(), "sound"); err != nil || v != "value" {
						t.Errorf("a sound value among garbage: %v, %v", v, err)
					}
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, time.Since(start), deadline+time.Second, "no caller waits beyond its deadline")
		require.Positive(t, turnedAway.Load(), "more came than the gate lets through")
		const burst, rate, ahead = 1024, 100, 100 // of the gate: its burst, its rate, and the calls that wait for the next second
		require.LessOrEqual(t, service.Decrypts()-decrypts, burst+ahead+rate*(1+int(time.Since(start).Seconds())), "calls")
		require.Greater(t, service.Decrypts(), decrypts)
		require.LessOrEqual(t, service.MostAtOnce(), 16+1)

		// A refusal may count as a miss. A call that was not made must not.
		_, err = forgiving.Get(t.Context(), "garbage1")
		require.ErrorIs(t, err, store.NotFound{})
		require.ErrorIs(t, err, middleware.ErrUnauthentic)
	})
}

// garbage is a sealed value with a data key of n random bytes.
func garbage(sound []byte, header, n int) []byte {
	wrapped := make([]byte, n)
	rand.Read(wrapped)
	out := append([]byte(nil), sound[:header]...)
	out = binary.BigEndian.AppendUint32(out, uint32(n))
	out = append(out, wrapped...)
	rest := make([]byte, 40)
	rand.Read(rest)
	return append(out, rest...)
}

// Old keys of a key service are destroyed after a rotation. Old values are refused at once, without retries, and new
// ones work.
func TestKeyServiceShreds(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	m := memory(t)
	require.NoError(t, sealed(t, m, process(t, service)).Set(t.Context(), "k", "value"))
	service.Rotate(t)
	service.DestroyOldKeys(t)
	s := sealed(t, m, process(t, service))
	decrypts := service.Decrypts()
	for range 100 {
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrUnauthentic)
	}
	require.Equal(t, decrypts+1, service.Decrypts(), "a refusal is remembered")
	require.NoError(t, s.Set(t.Context(), "k", "value"))
	_, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
}
