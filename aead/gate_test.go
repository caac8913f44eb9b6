package aead_test

import (
	"context"
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

// manyDataKeys are messages that are each sealed under a data key of their own.
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

// A process that starts beside a full store meets all its data keys at once. None is garbage, so no read may fail, and
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

func TestLegitimateWaitsBehindGarbage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := manyDataKeys(t, service, 2)
		e := newEnvelope(t, service)
		var wg sync.WaitGroup
		for i := range aead.UnwrapBurst + 5*aead.UnwrapRate { // a bucket full, and five seconds' worth in the queue
			wg.Go(func() {
				if _, err := e.DecryptWithContext(t.Context(), garbage(i), nil); !errors.Is(err, aead.ErrUnauthentic) {
					t.Errorf("garbage: %v", err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.DecryptWithContext(ctx, sealed[0], nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("behind five seconds of garbage, with a second's patience: %v", err)
		}
		open(t, e, sealed[1])
		if waited := time.Since(began); waited < 4*time.Second || waited > 6*time.Second {
			t.Errorf("waited %v behind five seconds of garbage", waited)
		}
		wg.Wait()
	})
}

// Readers that have gone hold no place in the queue, and are not held against whoever reads next.
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

// Where the KEK is local, a limit would fail reads and protect nobody.
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
			for i := range aead.UnwrapBurst + 3*aead.UnwrapRate {
				if _, err := e.DecryptWithContext(t.Context(), garbage(i), nil); err == nil || errors.Is(err, aead.ErrKeyServiceUnavailable) {
					t.Fatalf("%s: garbage: %v", name, err)
				}
			}
			took := time.Since(began)
			if !c.limited && took != 0 || c.limited && (took < 2900*time.Millisecond || took > 3100*time.Millisecond) {
				t.Errorf("%s: %d pieces of garbage took %v", name, aead.UnwrapBurst+3*aead.UnwrapRate, took)
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
