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

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// hangingService is a KEK whose client ignores its context: while it hangs, calls return only when they are let go.
type hangingService struct {
	*aeadtest.KeyService
	hangs   atomic.Bool
	letGo   chan struct{}
	wraps   atomic.Int64 // stuck at this moment
	unwraps atomic.Int64
	mu      sync.Mutex
	given   [][]byte // the data keys to wrap that it gets while it hangs
	late    []byte   // what it returned of the last unwrap, late
}

func newHangingService(t testing.TB) *hangingService {
	return &hangingService{KeyService: aeadtest.NewKeyService(t), letGo: make(chan struct{})}
}

func (d *hangingService) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if d.hangs.Load() {
		d.mu.Lock()
		d.given = append(d.given, plaintext)
		d.mu.Unlock()
		d.wraps.Add(1)
		<-d.letGo
		d.wraps.Add(-1)
		ctx = context.Background()
	}
	return d.KeyService.EncryptWithContext(ctx, plaintext, ad)
}

func (d *hangingService) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if !d.hangs.Load() {
		return d.KeyService.DecryptWithContext(ctx, ciphertext, ad)
	}
	d.unwraps.Add(1)
	<-d.letGo
	d.unwraps.Add(-1)
	out, err := d.KeyService.DecryptWithContext(context.Background(), ciphertext, ad)
	d.mu.Lock()
	d.late = out
	d.mu.Unlock()
	return out, err
}

const abandonedAfter = 11 * time.Second

func TestDeafKeyServiceHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.hangs.Store(true)
		calls := map[string]func() error{
			"seal":        func() error { _, err := e.EncryptWithContext(t.Context(), nil, nil); return err },
			"open":        func() error { _, err := e.DecryptWithContext(t.Context(), other, nil); return err },
			"NewEnvelope": func() error { _, err := aead.NewEnvelope(t.Context(), service); return err },
		}
		for name, call := range calls {
			began := time.Now()
			if err := call(); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "did not answer within 10s") {
				t.Errorf("%s: %v", name, err)
			}
			if waited := time.Since(began); waited > abandonedAfter {
				t.Errorf("%s waited %v for a KEK that ignores its context", name, waited)
			}
		}
		began := time.Now()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("Close waited %v for a KEK that ignores its context", waited)
		}
		close(service.letGo)
	})
}

func TestCloseDuringADeafCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.hangs.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
				t.Errorf("seal: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := e.DecryptWithContext(t.Context(), other, nil); !errors.Is(err, aead.ErrClosed) {
				t.Errorf("open: %v", err)
			}
		})
		synctest.Wait()
		began := time.Now()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("Close waited %v for calls that do not heed it", waited)
		}
		close(service.letGo)
	})
}

// The calls that a hanging key service holds are bounded, and what they held is used again when they return.
func TestAbandonedCallsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.hangs.Store(true)
		began := time.Now()
		for i := 0; time.Since(began) < time.Hour; i++ {
			if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
				t.Fatalf("seal: %v", err)
			}
			if _, err := e.DecryptWithContext(t.Context(), garbage(i), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
				t.Fatalf("open: %v", err)
			}
			time.Sleep(time.Second)
		}
		if w, u := service.wraps.Load(), service.unwraps.Load(); w > aead.WrapParallel || w < 2 || u > aead.UnwrapParallel || u < 2 {
			t.Errorf("%d calls to wrap and %d to unwrap are stuck, want at most %d and %d", w, u, aead.WrapParallel, aead.UnwrapParallel)
		}
		service.hangs.Store(false)
		close(service.letGo)
		time.Sleep(time.Minute)
		open(t, e, seal(t, e, "message"))
		open(t, e, other)
	})
}

// Attempts to wrap get rarer with each call that hangs, so that some are left for when the service is back.
func TestAbandonedCallsAreSpacedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.hangs.Store(true)
		for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(10 * time.Millisecond) {
			if _, err := e.EncryptWithContext(t.Context(), nil, nil); err == nil {
				t.Fatal("sealed without a data key")
			}
		}
		if n := service.wraps.Load(); n < 3 || n > 6 {
			t.Errorf("%d calls hang after two minutes, want some 5", n)
		}
		close(service.letGo)
	})
}

// The service is back, but the connections that hung go on hanging: neither sealing nor opening waits for them.
func TestServiceIsBackWhileOldCallsHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.hangs.Store(true)
		for range 2 {
			if _, err := e.EncryptWithContext(t.Context(), nil, nil); err == nil {
				t.Fatal("sealed without a data key")
			}
			if _, err := e.DecryptWithContext(t.Context(), other, nil); err == nil {
				t.Fatal("opened without a data key")
			}
			time.Sleep(20 * time.Second)
		}
		service.hangs.Store(false)
		if service.wraps.Load() == 0 || service.unwraps.Load() == 0 {
			t.Fatal("nothing hangs")
		}
		seal(t, e, "message")
		open(t, e, other)
		close(service.letGo)
	})
}

// An abandoned call returns a data key in plaintext, and its argument is one as well.
func TestLateAnswersAreCleared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.hangs.Store(true)
		if _, err := e.EncryptWithContext(t.Context(), nil, nil); err == nil {
			t.Fatal("sealed without a data key")
		}
		if _, err := e.DecryptWithContext(t.Context(), other, nil); err == nil {
			t.Fatal("opened without a data key")
		}
		synctest.Wait()
		if len(service.given) == 0 || isZero(service.given[0]) {
			t.Fatal("the data key was cleared while the KEK was still reading it")
		}
		close(service.letGo)
		synctest.Wait()
		for _, given := range service.given {
			if !isZero(given) {
				t.Error("a data key that was to be wrapped is still in memory")
			}
		}
		if len(service.late) == 0 || !isZero(service.late) {
			t.Error("a data key that came too late is still in memory")
		}
	})
}

func isZero(b []byte) bool { return strings.Trim(string(b), "\x00") == "" }

// A caller whose own context has no deadline must not be told that it passed.
func TestOwnDeadlineIsNotTheCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		seal(t, e, "uses the data key up")
		service.Gone(true)
		for name, call := range map[string]func() error{
			"seal":        func() error { _, err := e.EncryptWithContext(t.Context(), nil, nil); return err },
			"open":        func() error { _, err := e.DecryptWithContext(t.Context(), other, nil); return err },
			"NewEnvelope": func() error { _, err := aead.NewEnvelope(t.Context(), service); return err },
		} {
			err := call()
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "did not answer within 10s") {
				t.Errorf("%s: %v", name, err)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: our own deadline shows as that of a caller who has none: %v", name, err)
			}
			if !strings.Contains(err.Error(), "aeadtest: the simulated key service never answers") {
				t.Errorf("%s: what the KEK said is lost: %v", name, err)
			}
		}
	})
}

// A client that takes every failure for a refusal must not have its timeouts remembered as refusals.
func TestRefusalByDeadlineIsAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, kekFuncs{
			encrypt: func(ctx context.Context, in []byte) ([]byte, error) { return service.EncryptWithContext(ctx, in, nil) },
			decrypt: func(ctx context.Context, in []byte) ([]byte, error) {
				out, err := service.DecryptWithContext(ctx, in, nil)
				if err != nil {
					err = errors.Join(aead.ErrUnauthentic, err)
				}
				return out, err
			},
		})
		service.Gone(true)
		if _, err := e.DecryptWithContext(t.Context(), other, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("a timeout: %v", err)
		}
		service.Gone(false)
		open(t, e, other)
	})
}

// A caller's own context shows as itself, with the cause that ended it.
func TestCauseOfTheCallersContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		other := seal(t, newEnvelope(t, service), "of another process")
		e := newEnvelope(t, service, aead.WithMaxMessages(1))
		ring := newKeyring(t)
		seal(t, e, "uses the data key up")
		service.Gone(true)
		cause := errors.New("the request was withdrawn")
		calls := map[string]func(context.Context) error{
			"Envelope seal": func(ctx context.Context) error { _, err := e.EncryptWithContext(ctx, nil, nil); return err },
			"Envelope open": func(ctx context.Context) error { _, err := e.DecryptWithContext(ctx, other, nil); return err },
			"NewEnvelope":   func(ctx context.Context) error { _, err := aead.NewEnvelope(ctx, service); return err },
			"Keyring seal":  func(ctx context.Context) error { _, err := ring.EncryptWithContext(ctx, nil, nil); return err },
			"Keyring open":  func(ctx context.Context) error { _, err := ring.DecryptWithContext(ctx, other, nil); return err },
			"FileSource":    func(ctx context.Context) error { _, err := aead.FileSource("/").Load(ctx); return err },
		}
		for name, call := range calls {
			ended, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			if err := call(ended); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
				t.Errorf("%s, before the call: %v", name, err)
			}
			if strings.HasPrefix(name, "Keyring") || name == "FileSource" {
				continue // they do not wait
			}
			ended, cancelLater := context.WithTimeoutCause(t.Context(), time.Second, cause)
			if err := call(ended); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
				t.Errorf("%s, during the call: %v", name, err)
			}
			cancelLater()
		}
	})
}
