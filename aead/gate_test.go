package aead_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// manyDataKeys are messages that are each sealed under their own data key.
func manyDataKeys(t testing.TB, kek tink.AEADWithContext, n int) [][]byte {
	t.Helper()
	perMessage, err := tinkaead.NewKMSEnvelopeAEADWithContext(tinkaead.AES256GCMKeyTemplate(), kek)
	if err != nil {
		t.Fatal(err)
	}
	sealed := make([][]byte, n)
	for i := range sealed {
		if sealed[i], err = perMessage.EncryptWithContext(t.Context(), []byte("message"), nil); err != nil {
			t.Fatal(err)
		}
	}
	return sealed
}

// A process that starts next to a full store meets all its data keys at once. None is garbage, so no read may fail, and
// nothing but the key service's own speed may slow them.
func TestColdStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := manyDataKeys(t, service, 4*aead.UnwrapBurst)
		e := newEnvelope(t, service)
		service.Delay(10 * time.Millisecond)
		began := time.Now()
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 1000 {
			wg.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(sealed) {
						return
					}
					if _, err := e.DecryptWithContext(t.Context(), sealed[i], nil); err != nil {
						t.Errorf("cold start: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		atBest := time.Duration(len(sealed)/aead.UnwrapParallel) * 10 * time.Millisecond
		if took := time.Since(began); took > atBest*11/10 {
			t.Errorf("%d data keys took %v, the key service needs %v", len(sealed), took, atBest)
		}
		calls := service.Decrypts()
		for _, s := range sealed {
			open(t, e, s)
		}
		if n := service.Decrypts() - calls; n != 0 {
			t.Errorf("by default %d of %d data keys are not held", n, len(sealed))
		}
	})
}

// Readers that have gone hold no place in the queue, and do not delay the next readers.
func TestQueueHoldsOnlyWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := manyDataKeys(t, service, aead.UnwrapParallel+aead.UnwrapQueue+1)
		e := newEnvelope(t, service)
		service.Delay(8 * time.Second)
		read := func(ctx context.Context, i int) error {
			_, err := e.DecryptWithContext(ctx, sealed[i], nil)
			return err
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i := range len(sealed) - 1 {
			wg.Go(func() {
				if err := read(impatient, i); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("impatient: %v", err)
				}
			})
			if i < aead.UnwrapParallel {
				synctest.Wait() // these are called, all others wait
			}
		}
		synctest.Wait()
		began, last := time.Now(), len(sealed)-1
		if err := read(t.Context(), last); !errors.Is(err, aead.ErrTooManyDataKeys) || strings.Contains(err.Error(), "garbage") || time.Since(began) != 0 {
			t.Errorf("with a full queue: %v after %v", err, time.Since(began))
		}
		wg.Wait()
		synctest.Wait()
		service.Delay(0)
		if err := read(t.Context(), last); err != nil || time.Since(began) != 8*time.Second {
			t.Errorf("with an empty queue: %v after %v", err, time.Since(began))
		}
		if err := read(t.Context(), 0); err != nil || service.Decrypts() > aead.UnwrapParallel+3 {
			t.Errorf("a call that had begun was given up with its reader: %v, %d calls", err, service.Decrypts())
		}
	})
}

// decorated is a Keyring with something around it, which may call anybody.
type decorated struct{ *aead.Keyring }

// Where the KEK is local, a limit would fail reads and protect no service.
func TestLocalKEKHasNoRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		primitive, err := tinkaead.New(h)
		if err != nil {
			t.Fatal(err)
		}
		ring := newKeyring(t)
		for name, c := range map[string]struct {
			kek     tink.AEADWithContext
			limited bool
		}{
			"Keyring":               {ring, false},
			"WithContext":           {aead.WithContext(primitive), false},
			"a type around Keyring": {decorated{ring}, true},
			"a key service":         {aeadtest.NewKeyService(t), true},
		} {
			e, began := newEnvelope(t, c.kek), time.Now()
			turnedAway := false
			for i := range aead.UnwrapBurst + 3*aead.UnwrapRate {
				_, err := e.DecryptWithContext(t.Context(), garbage(i), nil)
				if err == nil || errors.Is(err, aead.ErrKeyServiceUnavailable) {
					t.Fatalf("%s: garbage: %v", name, err)
				}
				turnedAway = turnedAway || errors.Is(err, aead.ErrTooManyDataKeys)
			}
			if took := time.Since(began); turnedAway != c.limited || !c.limited && took != 0 {
				t.Errorf("%s: %d pieces of garbage took %v, turned away: %v", name, aead.UnwrapBurst+3*aead.UnwrapRate, took, turnedAway)
			}
			var wg sync.WaitGroup
			for i := range aead.UnwrapQueue + 100 {
				if c.limited {
					break
				}
				wg.Go(func() {
					if _, err := e.DecryptWithContext(t.Context(), garbage(1_000_000+i), nil); errors.Is(err, aead.ErrKeyServiceUnavailable) {
						t.Errorf("%s: many at once: %v", name, err)
					}
				})
			}
			wg.Wait()
		}
	})
}

// An outage is over when it is over: no failure but a definite refusal is held against a data key, however often it
// came.
func TestOutageIsOverWhenItIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := manyDataKeys(t, service, 1)
		e := newEnvelope(t, service)
		denied := errors.New("permission denied")
		service.Fail(denied)
		for range 50 {
			if _, err := e.DecryptWithContext(t.Context(), sealed[0], nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, denied) {
				t.Fatalf("permission denied: %v", err)
			}
		}
		service.Fail(nil)
		open(t, e, sealed[0])
	})
}

// imitated is well formed, with a wrapped data key that looks like an honest one.
func imitated(honest []byte, i int) []byte {
	out := bytes.Clone(honest)
	binary.BigEndian.PutUint64(out[20:], uint64(i)+1)
	return out
}

// The values of new processes open even if many readers meet planted values. Their data keys are named by several values, or
// look like data keys that were proved.
func TestPlantedValuesStarveNoHonestOnes(t *testing.T) {
	t.Parallel()
	made := func(_ []byte, i int) []byte { return garbage(i) }
	for name, c := range map[string]struct {
		readers  int
		delay    time.Duration
		plant    func(honest []byte, i int) []byte
		values   int
		together bool
	}{
		"made up":                            {200, 5 * time.Millisecond, made, 5, true},
		"made up, many readers":              {1000, 5 * time.Millisecond, made, 5, true},
		"made up, few readers":               {20, 5 * time.Millisecond, made, 2, true},
		"made up, one reader":                {1, 5 * time.Millisecond, made, 2, true},
		"made up, fast service":              {200, 0, made, 5, true},
		"made up, slow service":              {200, 50 * time.Millisecond, made, 5, true},
		"made up, values one by one":         {200, 5 * time.Millisecond, made, 5, false},
		"made up, one value":                 {200, 5 * time.Millisecond, made, 1, false},
		"imitated":                           {200, 5 * time.Millisecond, imitated, 5, true},
		"imitated, few readers":              {20, 5 * time.Millisecond, imitated, 2, true},
		"two values for each made-up key":    {200, 5 * time.Millisecond, func(_ []byte, i int) []byte { return garbageFor(i/2, i%2) }, 5, true},
		"many values for few imitated keys":  {200, 5 * time.Millisecond, func(h []byte, i int) []byte { return withPayload(imitated(h, i/50), i) }, 5, true},
		"one planted value for many readers": {200, 5 * time.Millisecond, func(_ []byte, i int) []byte { return garbage(i / 1000) }, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if raceEnabled {
					c.readers = min(c.readers, 100)
				}
				service := aeadtest.NewKeyService(t)
				e := newEnvelope(t, service)
				shape := seal(t, e, "message")
				service.Delay(c.delay)
				calls, began := service.Decrypts(), time.Now()
				stop, end := context.WithCancel(t.Context())
				var next atomic.Int64
				var wg sync.WaitGroup
				for range c.readers {
					wg.Go(func() {
						for stop.Err() == nil {
							ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
							_, err := e.DecryptWithContext(ctx, c.plant(shape, int(next.Add(1))), nil)
							cancel()
							if err == nil || errors.Is(err, aead.ErrKeyServiceUnavailable) {
								t.Errorf("a planted value: %v", err)
								return
							}
							time.Sleep(time.Microsecond)
						}
					})
				}
				time.Sleep(3 * time.Second)
				honest := 0
				for range 5 {
					other := newEnvelope(t, service)
					honest++
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					var opened sync.WaitGroup
					for range c.values {
						sealed := seal(t, other, "message")
						open := func() {
							if _, err := e.DecryptWithContext(ctx, sealed, nil); err != nil {
								t.Errorf("an honest value: %v", err)
							}
						}
						if c.together {
							opened.Go(open)
						} else {
							open()
						}
					}
					opened.Wait()
					cancel()
				}
				end()
				wg.Wait()
				most := aead.UnwrapBurst + aead.UnwrapRate*(time.Since(began).Seconds()+1) + 2*float64(honest)
				if n := service.Decrypts() - calls; float64(n) > most {
					t.Errorf("%d calls, the promise allows %.0f", n, most)
				}
			})
		})
	}
}

// garbageFor is another value for each n under the i-th made-up data key.
func garbageFor(i, n int) []byte { return withPayload(garbage(i), n) }

func withPayload(sealed []byte, n int) []byte {
	out := bytes.Clone(sealed)
	binary.BigEndian.PutUint64(out[len(out)-8:], uint64(n))
	return out
}

// A data key that was turned away has a better turn when another value names it, however long the readers are gone.
func TestTurnedAwayDataKeyComesFirstLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := &vault{AEADWithContext: aeadtest.NewKeyService(t)}
		e, other := newEnvelope(t, kek), newEnvelope(t, kek)
		first, second := spelled(t, seal(t, other, "first"), 3), spelled(t, seal(t, other, "second"), 3) // looks like no proved one
		stop, end := context.WithCancel(t.Context())
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for stop.Err() == nil {
					_, _ = e.DecryptWithContext(t.Context(), garbage(int(next.Add(1))), nil)
					time.Sleep(time.Microsecond)
				}
			})
		}
		time.Sleep(3 * time.Second)
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := e.DecryptWithContext(impatient, first, nil); !errors.Is(err, aead.ErrTooManyDataKeys) {
			t.Errorf("with a millisecond behind garbage: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
		open(t, e, second)
		open(t, e, first)
		end()
		wg.Wait()
	})
}

// Many planted values at one moment are no outage of a key service that answers.
func TestManyUnknownDataKeysAreNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service)
		service.Delay(20 * time.Millisecond)
		for round := range 2 {
			var refused, turnedAway atomic.Int64
			var wg sync.WaitGroup
			for i := range 8000 {
				wg.Go(func() {
					_, err := e.DecryptWithContext(t.Context(), garbage(round*8000+i), nil)
					switch {
					case errors.Is(err, aead.ErrTooManyDataKeys) && !errors.Is(err, aead.ErrKeyServiceUnavailable):
						turnedAway.Add(1)
					case errors.Is(err, aead.ErrUnauthentic):
						refused.Add(1)
					default:
						t.Errorf("a planted value: %v", err)
					}
				})
			}
			wg.Wait()
			if refused.Load() == 0 || turnedAway.Load() == 0 {
				t.Errorf("%d refused, %d turned away", refused.Load(), turnedAway.Load())
			}
		}
		if s := e.Stats(); s.TooManyDataKeys == 0 || s.UnwrapFailures != 0 {
			t.Errorf("Stats: %+v", s)
		}
	})
}

// An outage is an outage, also behind the gate: such a value must not pass for a miss.
func TestOutageBehindTheGate(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*aeadtest.KeyService){
		"failing": func(s *aeadtest.KeyService) { s.Fail(aeadtest.ErrOutage) },
		"gone":    func(s *aeadtest.KeyService) { s.Gone(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				service := aeadtest.NewKeyService(t)
				sealed := manyDataKeys(t, service, 2*aead.UnwrapBurst)
				e := newEnvelope(t, service)
				down(service)
				var wg sync.WaitGroup
				for i, s := range sealed {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second+time.Duration(i)*time.Millisecond)
						defer cancel()
						if _, err := e.DecryptWithContext(ctx, s, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrTooManyDataKeys) {
							t.Errorf("in an outage: %v", err)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}
