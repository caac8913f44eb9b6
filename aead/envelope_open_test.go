package aead_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// garbage is well formed. No key wrapped its data key.
func garbage(i int) []byte {
	wrapped := fmt.Sprintf("%067d", i)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(wrapped)))
	out = append(out, wrapped...)
	return append(out, make([]byte, 40)...)
}

func TestUnknownDataKeyIsUnwrappedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		writer, reader := newEnvelope(t, service), newEnvelope(t, service)
		sealed := seal(t, writer, "message")
		calls := service.Decrypts()
		service.Delay(time.Second)
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() { open(t, reader, sealed) })
		}
		wg.Wait()
		if n := service.Decrypts() - calls; n != 1 {
			t.Errorf("10,000 readers of one data key made %d calls", n)
		}
		if s := reader.Stats(); s.CacheMisses != 1 {
			t.Errorf("%d misses", s.CacheMisses)
		}
	})
}

func TestGarbageDataKeysCannotStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		writer, reader := newEnvelope(t, service), newEnvelope(t, service)
		own, known := seal(t, reader, "own"), seal(t, writer, "known")
		open(t, reader, known)
		calls := service.Decrypts()
		service.Delay(20 * time.Millisecond)
		began := time.Now()
		var refused, turnedAway atomic.Int64
		var wg sync.WaitGroup
		for i := range 10_000 {
			wg.Go(func() {
				_, err := reader.DecryptWithContext(t.Context(), garbage(i), nil)
				switch {
				case errors.Is(err, aead.ErrUnauthentic):
					refused.Add(1)
				case errors.Is(err, aead.ErrKeyServiceUnavailable), errors.Is(err, aead.ErrTooManyDataKeys):
					turnedAway.Add(1)
				default:
					t.Errorf("garbage: %v", err)
				}
			})
		}
		synctest.Wait()
		open(t, reader, own)
		open(t, reader, known)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("messages under known data keys waited %v behind garbage", waited)
		}
		wg.Wait()
		if waited := time.Since(began); waited > 11*time.Second {
			t.Errorf("garbage was turned away after %v only", waited)
		}
		const most = aead.UnwrapBurst + 10*aead.UnwrapRate
		if n := service.Decrypts() - calls; n > most || n < most/2 {
			t.Errorf("%d calls for garbage that came at once, want up to %d", n, most)
		}
		if n := service.MostAtOnce(); n > aead.UnwrapParallel {
			t.Errorf("%d calls at one time, want at most %d", n, aead.UnwrapParallel)
		}
		if refused.Load() == 0 || turnedAway.Load() == 0 || refused.Load()+turnedAway.Load() != 10_000 {
			t.Errorf("%d refused, %d turned away", refused.Load(), turnedAway.Load())
		}
		s := reader.Stats()
		if s.TooManyDataKeys < 10_000-aead.UnwrapQueue-aead.UnwrapParallel || s.TooManyDataKeys+s.UnwrapFailures != uint64(turnedAway.Load()) ||
			s.Refusals != uint64(refused.Load()) || s.DataKeys != 2 {
			t.Errorf("Stats: %+v", s)
		}
	})
}

func TestRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service)
		calls := service.Decrypts()
		for range 1000 {
			if _, err := e.DecryptWithContext(t.Context(), garbage(1), nil); !errors.Is(err, aead.ErrUnauthentic) {
				t.Fatal(err)
			}
		}
		if n := service.Decrypts() - calls; n != 1 {
			t.Errorf("1000 readings of one poisoned value made %d calls", n)
		}
		if s := e.Stats(); s.RefusalsRemembered != 999 {
			t.Errorf("%d refusals from memory", s.RefusalsRemembered)
		}
		time.Sleep(aead.RefusalMemory)
		if _, err := e.DecryptWithContext(t.Context(), garbage(1), nil); !errors.Is(err, aead.ErrUnauthentic) || service.Decrypts()-calls != 2 {
			t.Errorf("later: %v, %d calls", err, service.Decrypts()-calls)
		}
	})
}

// Planted values cannot make an Envelope remember refusals without bound: the oldest go.
func TestRememberedRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		kek, err := aead.NewKeyring(h) // calls to it have no rate limit
		if err != nil {
			t.Fatal(err)
		}
		e := newEnvelope(t, kek)
		const planted = aead.MaxRefusals + 100
		for i := range planted {
			if _, err := e.DecryptWithContext(t.Context(), garbage(i), nil); !errors.Is(err, aead.ErrUnknownKey) && !errors.Is(err, aead.ErrUnauthentic) {
				t.Fatal(err)
			}
		}
		if n := e.Refusals(); n != aead.MaxRefusals {
			t.Errorf("%d refusals are remembered, the bound is %d", n, aead.MaxRefusals)
		}
		for i, asked := range map[int]uint64{0: 1, planted - 1: 0} {
			before := e.Stats().Refusals
			_, err := e.DecryptWithContext(t.Context(), garbage(i), nil)
			if n := e.Stats().Refusals - before; err == nil || n != asked {
				t.Errorf("value %d: %v, %d calls", i, err, n)
			}
		}
		time.Sleep(aead.RefusalMemory)
		if _, err := e.DecryptWithContext(t.Context(), garbage(planted), nil); err == nil || e.Refusals() != 1 {
			t.Errorf("%v, %d refusals are remembered past their time", err, e.Refusals())
		}
	})
}

func TestOutageIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := seal(t, newEnvelope(t, service), "message")
		e := newEnvelope(t, service)
		for name, down := range map[string]struct{ begin, end func() }{
			"failing": {func() { service.Fail(aeadtest.ErrOutage) }, func() { service.Fail(nil) }},
			"gone":    {func() { service.Gone(true) }, func() { service.Gone(false) }},
		} {
			down.begin()
			_, err := e.DecryptWithContext(t.Context(), sealed, nil)
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
				t.Errorf("%s: %v", name, err)
			}
			if name == "failing" && !errors.Is(err, aeadtest.ErrOutage) {
				t.Errorf("%s: the service's own error is lost: %v", name, err)
			}
			down.end()
			open(t, e, sealed)
			time.Sleep(2 * time.Hour) // the next round meets it unknown again
		}
	})
}

func TestDataKeyInUseIsConfirmedInTheBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		writer := newEnvelope(t, service)
		e := newEnvelope(t, service, aead.WithDataKeyTTL(time.Hour))
		own, known := seal(t, e, "own"), seal(t, writer, "known")
		open(t, e, known)
		calls := service.Decrypts()
		service.Delay(time.Second)
		for range 10 * 60 {
			began := time.Now()
			open(t, e, own)
			open(t, e, known)
			if waited := time.Since(began); waited != 0 {
				t.Fatalf("a reader waited %v", waited)
			}
			time.Sleep(time.Minute)
		}
		if n := service.Decrypts() - calls; n < 20 || n > 30 {
			t.Errorf("%d calls to confirm two data keys over ten hours, want some 26", n)
		}
	})
}

func TestDataKeyTTL(t *testing.T) {
	t.Parallel()
	const ttl = time.Hour
	end := map[string]struct {
		how  func(*aeadtest.KeyService)
		want error
		most time.Duration
	}{
		"outage":  {func(s *aeadtest.KeyService) { s.Fail(aeadtest.ErrOutage) }, aead.ErrKeyServiceUnavailable, ttl},
		"refusal": {func(s *aeadtest.KeyService) { s.Refuse(true) }, aead.ErrUnauthentic, ttl},
	}
	for name, c := range end {
		for _, whose := range []string{"own", "other"} {
			t.Run(name+"/"+whose, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					service := aeadtest.NewKeyService(t)
					writer := newEnvelope(t, service)
					e := newEnvelope(t, service, aead.WithDataKeyTTL(ttl))
					sealed := seal(t, e, "own")
					if whose == "other" {
						sealed = seal(t, writer, "other")
						open(t, e, sealed)
					}
					began := time.Now()
					c.how(service)
					for {
						_, err := e.DecryptWithContext(t.Context(), sealed, nil)
						if err != nil {
							if !errors.Is(err, c.want) {
								t.Errorf("want %v, got %v", c.want, err)
							}
							break
						}
						if time.Since(began) >= c.most {
							t.Fatalf("still opens after %v", time.Since(began))
						}
						time.Sleep(time.Minute)
					}
					if name == "outage" && time.Since(began) < ttl {
						t.Errorf("reads under a known data key failed after %v, its TTL is %v", time.Since(began), ttl)
					}
					if name == "refusal" && time.Since(began) > ttl*3/4+2*time.Minute {
						t.Errorf("a refusal in the background took effect after %v only", time.Since(began))
					}
				})
			})
		}
	}
}

func TestIdleDataKeyIsAskedForAfterItsTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithDataKeyTTL(time.Hour))
		sealed := seal(t, e, "message")
		time.Sleep(time.Hour)
		service.Refuse(true)
		if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("an unconfirmed data key: %v", err)
		}
		time.Sleep(time.Hour)
		if n := e.Stats().DataKeys; n != 0 {
			t.Errorf("%d data keys are held past their TTL", n)
		}
	})
}

// A data key that the KEK no longer unwraps must not seal: no process could open its values.
func TestRefusedDataKeyNoLongerSeals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithDataKeyTTL(time.Hour))
		sealed := seal(t, e, "message")
		service.Rotate(t)
		service.DestroyOldKeys(t)
		time.Sleep(50 * time.Minute)
		open(t, e, sealed) // within its TTL, and asks in the background
		synctest.Wait()
		if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("after the refusal: %v", err)
		}
		fresh := seal(t, e, "message")
		if header(t, fresh) == header(t, sealed) {
			t.Fatal("a refused data key still seals")
		}
		open(t, newEnvelope(t, service), fresh)
	})
}

func TestDataKeyCacheIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithDataKeyCache(10))
		hot := seal(t, newEnvelope(t, service), "hot")
		open(t, e, hot)
		for range 100 {
			open(t, e, seal(t, newEnvelope(t, service), "message"))
			calls := service.Decrypts()
			open(t, e, hot)
			if service.Decrypts() != calls {
				t.Fatal("a data key in constant use was evicted")
			}
			time.Sleep(time.Second)
		}
		if n := e.Stats().DataKeys; n != 10 {
			t.Errorf("%d data keys are held, the bound is 10", n)
		}
	})
}

func TestOpenAfterCallerHasGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := seal(t, newEnvelope(t, service), "message")
		e := newEnvelope(t, service)
		service.Delay(2 * time.Second)
		// Every caller has less patience than the service needs; the answer must not be lost with them.
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := e.DecryptWithContext(ctx, sealed, nil); err == nil {
				cancel()
				return
			}
			cancel()
		}
		t.Error("impatient callers never get to the data key")
	})
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour))
		own, other := seal(t, e, "message"), seal(t, newEnvelope(t, service), "other")
		time.Sleep(2 * time.Hour)
		service.Gone(true)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
				t.Errorf("a writer that was waiting: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := e.DecryptWithContext(t.Context(), other, nil); !errors.Is(err, aead.ErrClosed) {
				t.Errorf("a reader that was waiting: %v", err)
			}
		})
		synctest.Wait()
		began := time.Now()
		for range 2 {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if time.Since(began) != 0 {
			t.Errorf("Close took %v", time.Since(began))
		}
		if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
			t.Errorf("seal after Close: %v", err)
		}
		if _, err := e.DecryptWithContext(t.Context(), own, nil); !errors.Is(err, aead.ErrClosed) {
			t.Errorf("open after Close: %v", err)
		}
		if e.Overhead() != 0 || e.Stats().DataKeys != 0 {
			t.Errorf("after Close: %+v", e.Stats())
		}
	})
}

func TestEveryHitIsCounted(t *testing.T) {
	t.Parallel()
	e := newEnvelope(t, newKeyring(t))
	sealed := seal(t, e, "message")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 100 {
				open(t, e, sealed)
			}
		})
	}
	wg.Wait()
	if s := e.Stats(); s.CacheHits != 10_000 || s.CacheMisses != 0 {
		t.Errorf("10,000 messages were opened: %+v", s)
	}
}
