package aead_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// header returns the part of a ciphertext that tells its data key.
func header(t testing.TB, sealed []byte) string {
	t.Helper()
	h, _, ok := aead.SplitEnvelope(sealed)
	if !ok {
		t.Fatal("not an envelope")
	}
	return string(h)
}

func seal(t testing.TB, e *aead.Envelope, plaintext string) []byte {
	t.Helper()
	sealed, err := e.EncryptWithContext(t.Context(), []byte(plaintext), nil)
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return sealed
}

func open(t testing.TB, e *aead.Envelope, sealed []byte) {
	t.Helper()
	if _, err := e.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Fatalf("open: %v", err)
	}
}

func TestDataKeyIsReused(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	e := newEnvelope(t, service)
	for range 1000 {
		open(t, e, seal(t, e, "message"))
	}
	if w, u := service.Encrypts(), service.Decrypts(); w != 1 || u != 1 {
		t.Errorf("1000 messages cost %d wraps and %d unwraps, want 1 and the 1 of the self test", w, u)
	}
	s := e.Stats()
	if s.Wraps != 1 || s.CacheHits != 1000 || s.KeyMessages != 1000 || s.KeyBytes != 7000 || s.DataKeys != 1 {
		t.Errorf("Stats: %+v", s)
	}
}

func TestParallelFirstUseMakesOneDataKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour))
		time.Sleep(2 * time.Hour) // idle past the hard age
		service.Delay(time.Second)
		var keys sync.Map
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				sealed, err := e.EncryptWithContext(t.Context(), []byte("x"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				keys.Store(header(t, sealed), true)
			})
		}
		wg.Wait()
		n := 0
		keys.Range(func(any, any) bool { n++; return true })
		if n != 1 || service.Encrypts() != 2 {
			t.Errorf("10,000 parallel messages made %d data keys with %d calls, want 1 and 1", n, service.Encrypts()-1)
		}
	})
}

func TestSuccessorIsMadeBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			limit  aead.EnvelopeOption
			before int // messages of one byte that do not ask for a successor, after the one that is sealed first
			wait   time.Duration
		}{
			"messages": {aead.WithMaxMessages(100), 73, 0},
			"bytes":    {aead.WithMaxBytes(100), 73, 0},
			"age":      {aead.WithMaxAge(100 * time.Minute), 0, 75 * time.Minute},
		} {
			service := aeadtest.NewKeyService(t)
			e := newEnvelope(t, service, c.limit)
			service.Delay(time.Second)
			first := header(t, seal(t, e, "x"))
			for range c.before {
				seal(t, e, "x")
			}
			synctest.Wait()
			if n := service.Encrypts(); n != 1 {
				t.Errorf("%s: the successor was asked for too early", name)
			}
			time.Sleep(c.wait)
			began := time.Now()
			if got := header(t, seal(t, e, "x")); got != first {
				t.Errorf("%s: the present data key was dropped before its successor was there", name)
			}
			if header(t, seal(t, e, "x")) != first || time.Since(began) != 0 {
				t.Errorf("%s: a message waited %v for the key service", name, time.Since(began))
			}
			time.Sleep(2100 * time.Millisecond) // one call wraps it, one proves it
			began = time.Now()
			if header(t, seal(t, e, "x")) == first {
				t.Errorf("%s: there is no successor", name)
			}
			if time.Since(began) != 0 || service.Encrypts() != 2 {
				t.Errorf("%s: waited %v, %d calls", name, time.Since(began), service.Encrypts())
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestIdleEnvelopeCallsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		newEnvelope(t, service)
		time.Sleep(100 * 24 * time.Hour)
		if service.Encrypts() != 1 || service.Decrypts() != 1 {
			t.Errorf("%d wraps, %d unwraps while idle", service.Encrypts()-1, service.Decrypts()-1)
		}
	})
}

func TestHardLimitsAreNeverPassed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit        aead.EnvelopeOption
		message      string
		mostMessages int
	}{
		"messages": {aead.WithMaxMessages(97), "x", 97},
		"bytes":    {aead.WithMaxBytes(1000), "seven b", 1000 / 7},
		"one":      {aead.WithMaxMessages(1), "x", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvelope(t, aeadtest.NewKeyService(t), c.limit)
			var mu sync.Mutex
			keys := make(map[string]int)
			var wg sync.WaitGroup
			goroutines := 10_000
			if c.mostMessages == 1 {
				goroutines = 300
			}
			for range goroutines {
				wg.Go(func() {
					sealed, err := e.EncryptWithContext(t.Context(), []byte(c.message), nil)
					if err != nil {
						t.Errorf("seal: %v", err)
						return
					}
					h := header(t, sealed)
					mu.Lock()
					keys[h]++
					mu.Unlock()
				})
			}
			wg.Wait()
			total := 0
			for _, n := range keys {
				total += n
				if n > c.mostMessages {
					t.Errorf("a data key sealed %d messages, the limit is %d", n, c.mostMessages)
				}
			}
			if total != goroutines {
				t.Errorf("%d of %d messages were sealed", total, goroutines)
			}
		})
	}
}

func TestHardLimitsHoldInAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxMessages(100))
		service.Fail(aeadtest.ErrOutage)
		var sealed, failed atomic.Int64
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				_, err := e.EncryptWithContext(t.Context(), []byte("x"), nil)
				switch {
				case err == nil:
					sealed.Add(1)
				case errors.Is(err, aead.ErrKeyServiceUnavailable) && errors.Is(err, aeadtest.ErrOutage):
					failed.Add(1)
				default:
					t.Errorf("seal: %v", err)
				}
			})
		}
		wg.Wait()
		if sealed.Load() != 100 || failed.Load() != 9_900 {
			t.Errorf("%d sealed, %d failed; the limit is 100", sealed.Load(), failed.Load())
		}
		if n := service.Encrypts() - 1; n > 2 {
			t.Errorf("10,000 writers called a dead key service %d times", n)
		}
	})
}

func TestMessageLongerThanTheLimit(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	e := newEnvelope(t, service, aead.WithMaxBytes(10))
	if _, err := e.EncryptWithContext(t.Context(), make([]byte, 11), nil); err == nil || errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("11 bytes under a limit of 10: %v", err)
	}
	if service.Encrypts() != 1 {
		t.Error("a message that fits no data key had one made")
	}
	seal(t, e, "0123456789")
	seal(t, e, "0123456789")
}

func TestSealingThroughAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour))
		began := time.Now()
		service.Fail(aeadtest.ErrOutage)
		for time.Since(began) < time.Hour {
			seal(t, e, "x") // goes on under the present data key
			time.Sleep(10 * time.Millisecond)
		}
		// Attempts from 45 minutes on: doubling from 0.1 s to 5 s, so some 190 in 15 minutes, however many writers.
		if n := service.Encrypts() - 1; n < 100 || n > 250 {
			t.Errorf("%d attempts to wrap in 15 minutes", n)
		}
		if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, aeadtest.ErrOutage) {
			t.Errorf("past the hard age: %v", err)
		}
		calls := service.Encrypts()
		for range 1000 {
			if _, err := e.EncryptWithContext(t.Context(), nil, nil); err == nil {
				t.Fatal("sealed past the hard age")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := service.Encrypts() - calls; n > 5 {
			t.Errorf("%d attempts in ten seconds", n)
		}
		service.Fail(nil)
		time.Sleep(5 * time.Second)
		open(t, e, seal(t, e, "x"))
	})
}

func TestSealingThroughFlapping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Minute))
		for i := range 1200 { // ten minutes: four seconds down, six up, which attempts five seconds apart cannot miss
			if i%20 < 8 {
				service.Fail(aeadtest.ErrOutage)
			} else {
				service.Fail(nil)
			}
			open(t, e, seal(t, e, "x"))
			time.Sleep(500 * time.Millisecond)
		}
		if s := e.Stats(); s.Wraps < 9 || s.WrapFailures == 0 {
			t.Errorf("%d data keys, %d failures", s.Wraps, s.WrapFailures)
		}
	})
}

func TestGoneKeyServiceAndPatienceOfCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour))
		time.Sleep(2 * time.Hour)
		service.Gone(true)
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := e.EncryptWithContext(ctx, nil, nil)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, aead.ErrKeyServiceUnavailable) || time.Since(began) != time.Second {
				t.Errorf("with a deadline of a second: %v after %v", err, time.Since(began))
			}
		})
		wg.Go(func() {
			_, err := e.EncryptWithContext(t.Context(), nil, nil)
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || time.Since(began) != 10*time.Second {
				t.Errorf("without a deadline: %v after %v", err, time.Since(began))
			}
		})
		wg.Wait()
	})
}

func TestOneCallerGivingUpFailsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour))
		other := newEnvelope(t, service)
		sealed := seal(t, other, "message")
		time.Sleep(2 * time.Hour)
		service.Delay(5 * time.Second)
		calls := map[string]func(context.Context) error{
			"seal": func(ctx context.Context) error { _, err := e.EncryptWithContext(ctx, nil, nil); return err },
			"open": func(ctx context.Context) error { _, err := e.DecryptWithContext(ctx, sealed, nil); return err },
		}
		for name, call := range calls {
			var wg sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() { // begins the call to the key service
				if err := call(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, aead.ErrKeyServiceUnavailable) {
					t.Errorf("%s, cancelled: %v", name, err)
				}
			})
			synctest.Wait()
			for range 10 {
				wg.Go(func() {
					if err := call(t.Context()); err != nil {
						t.Errorf("%s, patient: %v", name, err)
					}
				})
			}
			time.Sleep(time.Second)
			cancel()
			wg.Wait()
		}
	})
}

func TestRotationOfTheKeyService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour))
		old := seal(t, e, "old")
		service.Rotate(t)
		time.Sleep(50 * time.Minute)
		seal(t, e, "asks for a successor")
		synctest.Wait()
		fresh := seal(t, e, "new")
		time.Sleep(2 * time.Hour) // no data key is remembered
		open(t, e, old)
		open(t, e, fresh)
		service.DestroyOldKeys(t)
		time.Sleep(2 * time.Hour)
		open(t, e, fresh)
		if _, err := e.DecryptWithContext(t.Context(), old, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("after its key was destroyed: %v", err)
		}
	})
}
