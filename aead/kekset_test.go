package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

func newKEKSet(t testing.TB, primary tink.AEADWithContext, others ...tink.AEADWithContext) *aead.KEKSet {
	t.Helper()
	s, err := aead.NewKEKSet(primary, others...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKEKSetConformance(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int{"alone": 0, "of three": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
				var more []tink.AEADWithContext
				for range others {
					more = append(more, aeadtest.NewKeyService(t))
				}
				return newKEKSet(t, aeadtest.NewKeyService(t), more...)
			})
		})
	}
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
			return newEnvelope(t, newKEKSet(t, newKeyring(t), newKeyring(t)))
		})
	})
}

func TestNewKEKSetRefuses(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	many := make([]tink.AEADWithContext, 16)
	for i := range many {
		many[i] = aeadtest.NewKeyService(t)
	}
	var none *aead.Keyring
	for name, keys := range map[string][]tink.AEADWithContext{
		"nil": {nil}, "nil pointer": {none}, "nil other": {k, nil}, "twice": {k, aeadtest.NewKeyService(t), k}, "too many": append(many, k),
	} {
		if _, err := aead.NewKEKSet(keys[0], keys[1:]...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func wrap(t testing.TB, kek tink.AEADWithContext, text string) []byte {
	t.Helper()
	wrapped, err := kek.EncryptWithContext(t.Context(), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func unwraps(t testing.TB, kek tink.AEADWithContext, wrapped []byte, want string) {
	t.Helper()
	got, err := kek.DecryptWithContext(t.Context(), wrapped, nil)
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// The member that opens a wrapped key is asked alone, also the first time if a key that looks alike was opened before.
func TestKEKSetAsksNoServiceInVain(t *testing.T) {
	t.Parallel()
	services := []*aeadtest.KeyService{aeadtest.NewKeyService(t), aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)}
	s := newKEKSet(t, services[0], services[1], services[2])
	var wrapped [][]byte
	for i := range 20 {
		wrapped = append(wrapped, wrap(t, services[2], fmt.Sprintf("%02d", i)))
	}
	for range 3 {
		for i, w := range wrapped {
			unwraps(t, s, w, fmt.Sprintf("%02d", i))
		}
	}
	if a, b, c := services[0].Decrypts(), services[1].Decrypts(), services[2].Decrypts(); a != 1 || b != 1 || c != 60 {
		t.Errorf("the members were asked %d, %d, %d times; want 1, 1, 60", a, b, c)
	}
	unwraps(t, s, wrap(t, s, "new"), "new")
	if a, c := services[0].Decrypts(), services[2].Decrypts(); a != 2 || c != 60 {
		t.Errorf("for a key that the primary wrapped, the members were asked %d and %d times", a, c)
	}
	stats := s.Stats()
	if stats[0] != (aead.KEKSetStats{Wraps: 1, Unwraps: 1, Refusals: 1}) || stats[2] != (aead.KEKSetStats{Unwraps: 60}) {
		t.Errorf("stats: %+v", stats)
	}
}

// A member of this package is asked before a service: it costs nothing.
func TestKEKSetAsksLocalMembersFirst(t *testing.T) {
	t.Parallel()
	service, local := aeadtest.NewKeyService(t), newKeyring(t)
	s := newKEKSet(t, service, local)
	unwraps(t, s, wrap(t, local, "old"), "old")
	if n := service.Decrypts(); n != 0 {
		t.Errorf("the service was asked %d times about a local key", n)
	}
}

func TestKEKSetRefusal(t *testing.T) {
	t.Parallel()
	a, b := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
	s := newKEKSet(t, a, b)
	garbage := bytes.Repeat([]byte{7}, 100)
	for range 5 {
		_, err := s.DecryptWithContext(t.Context(), garbage, nil)
		if !errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Fatalf("all refuse: %v", err)
		}
	}
	if a.Decrypts() != 1 || b.Decrypts() != 1 {
		t.Errorf("garbage that was read five times cost %d and %d calls", a.Decrypts(), b.Decrypts())
	}
	garbage[0]++
	b.Fail(aeadtest.ErrOutage)
	for range 2 {
		_, err := s.DecryptWithContext(t.Context(), garbage, nil)
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || !errors.Is(err, aeadtest.ErrOutage) {
			t.Fatalf("one refuses and one is down: %v", err)
		}
	}
	if a.Decrypts() != 2 {
		t.Errorf("the member that had refused was asked %d times", a.Decrypts()-1)
	}
}

// Any member that can open is enough, and the member that is down comes last for a while.
func TestKEKSetOutageOfOneMember(t *testing.T) {
	t.Parallel()
	a, b := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
	s := newKEKSet(t, a, b)
	a.Fail(aeadtest.ErrOutage)
	unwraps(t, s, wrap(t, b, "value"), "value")
	if _, err := s.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aeadtest.ErrOutage) {
		t.Errorf("another member wraps in the place of the primary: %v", err)
	}
	before := a.Decrypts()
	unwraps(t, s, wrap(t, b, "value 2"), "value 2")
	if a.Decrypts() != before {
		t.Error("a member that was down a moment ago was asked first")
	}
}

func TestKEKSetMemberHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hanging, b := newHangingService(t), aeadtest.NewKeyService(t)
		s := newKEKSet(t, hanging, b)
		wrapped := wrap(t, b, "value")
		hanging.hangs.Store(true)
		start := time.Now()
		unwraps(t, s, wrapped, "value")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a member that hangs delays the others by %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := s.DecryptWithContext(ctx, []byte("garbage that b refuses"), nil)
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one refuses and one hangs: %v", err)
		}
		close(hanging.letGo)
		synctest.Wait()
	})
}

// Moving an envelope to another KEK: values of either KEK open all the time, and the old one is not needed in the end.
func TestKEKSetOfEnvelopes(t *testing.T) {
	t.Parallel()
	old, next := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
	before := newEnvelope(t, newKEKSet(t, old, next))
	after := newEnvelope(t, newKEKSet(t, next, old))
	for _, from := range []*aead.Envelope{before, after} {
		sealed, err := from.EncryptWithContext(t.Context(), []byte("value"), []byte("ad"))
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []*aead.Envelope{before, after} {
			if got, err := to.DecryptWithContext(t.Context(), sealed, []byte("ad")); err != nil || string(got) != "value" {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

// A reload of a member empties the data keys of the envelope, as a reload of the KEK itself does.
func TestKEKSetReload(t *testing.T) {
	t.Parallel()
	var kept, other bytes.Buffer
	for _, b := range []*bytes.Buffer{&kept, &other} {
		if err := insecurecleartextkeyset.CreateKeyset(b, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
	}
	source := &changingSource{data: kept.Bytes()}
	member, err := insecurecleartextkeyset.OpenKeyring(t.Context(), source, aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	s := newKEKSet(t, newKeyring(t), member)
	defer s.Close()
	e := newEnvelope(t, s)
	sealed, err := newEnvelope(t, member).EncryptWithContext(t.Context(), []byte("value"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Fatal(err)
	}
	source.data = other.Bytes()
	if err := member.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("a value opens under a key that the reload removed: %v", err)
	}
}

type changingSource struct{ data []byte }

func (s *changingSource) Load(context.Context) ([]byte, error) { return bytes.Clone(s.data), nil }

func TestKEKSetSealsKeysets(t *testing.T) {
	t.Parallel()
	old, next := newKeyring(t), aeadtest.NewKeyService(t)
	var keyset bytes.Buffer
	if err := aead.CreateKeyset(t.Context(), &keyset, newKEKSet(t, old, next), tinkaead.AES256GCMKeyTemplate(), aead.WithKeysetName("shop")); err != nil {
		t.Fatal(err)
	}
	for name, kek := range map[string]tink.AEADWithContext{"before": old, "prepared": newKEKSet(t, old, next), "switched": newKEKSet(t, next, old)} {
		k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(keyset.Bytes()), kek, aead.WithKeysetName("shop"), aead.WithLogger(silent()))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = k.Close()
	}
	_, err := aead.OpenKeyring(t.Context(), aead.BytesSource(keyset.Bytes()), newKEKSet(t, next, newKeyring(t)), aead.WithLogger(silent()))
	if !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("no member opens the keyset: %v", err)
	}
}

func TestKEKSetShowsNothing(t *testing.T) {
	t.Parallel()
	s := newKEKSet(t, newKeyring(t), aeadtest.NewKeyService(t))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if got := fmt.Sprintf(verb, s); got != "aead.KEKSet(2 keys)" || strings.Contains(got, "0x") {
			t.Errorf("%s: %s", verb, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A keyset without its name opens although another member is down.
func TestUnnamedKeysetWhileAMemberIsDown(t *testing.T) {
	t.Parallel()
	kek, down := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
	var keyset bytes.Buffer
	if err := aead.CreateKeyset(t.Context(), &keyset, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	down.Fail(aeadtest.ErrOutage)
	k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(keyset.Bytes()), newKEKSet(t, kek, down), aead.WithKeysetName("shop"), aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	_ = k.Close()
}

// Values of one member open and stay open while another member hangs, however many values of that one are read.
func TestHungMemberHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek, hung := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
		only := func(kek tink.AEADWithContext) func(context.Context, string) (tink.AEADWithContext, error) {
			return func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }
		}
		set := newKEKSet(t, kek, hung)
		e := newEnvelope(t, set, aead.WithDataKeyTTL(2*time.Minute), aead.WithTenants(only(set)))
		subjects := map[string]tink.AEADWithContext{"an Envelope": e, "a tenant": newTenant(t, e, "acme")}
		values := map[string][][]byte{} // the first one is of the member that answers
		for i := range aead.UnwrapParallel + 5 {
			writer := newEnvelope(t, []tink.AEADWithContext{kek, hung}[min(i, 1)], aead.WithTenants(only([]tink.AEADWithContext{kek, hung}[min(i, 1)])))
			values["an Envelope"] = append(values["an Envelope"], sealFor(t, writer, "value"))
			values["a tenant"] = append(values["a tenant"], sealFor(t, newTenant(t, writer, "acme"), "value"))
		}
		for name, subject := range subjects {
			read := func(what string) {
				t.Helper()
				for _, v := range values[name][1:] {
					go func() { _, _ = openFor(subject, v) }()
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
				defer cancel()
				if _, err := subject.DecryptWithContext(ctx, values[name][0], []byte("ad")); err != nil {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
			hung.Gone(true)
			read("unknown data keys")
			hung.Gone(false)
			time.Sleep(2 * time.Minute)
			read("all members answer")
			time.Sleep(95 * time.Second)
			hung.Gone(true)
			for range 10 { // the data keys are to be confirmed
				read("before the TTL")
				time.Sleep(1100 * time.Millisecond)
			}
			time.Sleep(20 * time.Second)
			kek.Fail(aeadtest.ErrOutage)
			read("after the TTL")
			kek.Fail(nil)
			time.Sleep(2 * time.Minute)
		}
	})
}

// hangingAEAD is a local AEAD that hangs against its contract.
type hangingAEAD struct {
	running atomic.Int64
	letGo   chan struct{}
}

func (*hangingAEAD) Encrypt(_, _ []byte) ([]byte, error) { return nil, aeadtest.ErrOutage }

func (d *hangingAEAD) Decrypt(_, _ []byte) ([]byte, error) {
	d.running.Add(1)
	defer d.running.Add(-1)
	<-d.letGo
	return nil, aead.ErrUnauthentic
}

// Calls to a member of WithContext are bounded too, and another member is asked while it hangs.
func TestCallsToHungLocalMemberAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek, hung := aeadtest.NewKeyService(t), &hangingAEAD{letGo: make(chan struct{})}
		value := sealFor(t, newEnvelope(t, kek), "value")
		e := newEnvelope(t, newKEKSet(t, kek, aead.WithContext(hung)))
		for i := range 200 {
			go func() { _, _ = openFor(e, garbage(i)) }()
			time.Sleep(100 * time.Millisecond)
		}
		if n := hung.running.Load(); n > aead.KEKSetParallel {
			t.Errorf("%d calls are under way, want at most %d", n, aead.KEKSetParallel)
		}
		time.Sleep(time.Minute)
		if got, err := openFor(e, value); err != nil || got != "value" {
			t.Errorf("a value of the other member: %q, %v", got, err)
		}
		close(hung.letGo)
	})
}

// A keyset with a name is asked for twice. The error tells what the members answered, not that no time was left to ask again.
func TestErrorOfHungMembersWithKeysetName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek, hung := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
		var keyset bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &keyset, hung, tinkaead.AES256GCMKeyTemplate(), aead.WithKeysetName("shop")); err != nil {
			t.Fatal(err)
		}
		hung.Gone(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := aead.OpenKeyring(ctx, aead.BytesSource(keyset.Bytes()), newKEKSet(t, kek, hung), aead.WithKeysetName("shop"), aead.WithLogger(silent()))
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "key service never answers") {
			t.Error(err)
		}
	})
}
