package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// A KEK that answered wrongly twice is asked again as soon as it would be after a refusal.
func TestWrongDataKeyTwiceIsAskedForLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := &erring{service: aeadtest.NewKeyService(t)}
		sealed := seal(t, newEnvelope(t, kek), "message")
		e := newEnvelope(t, kek)
		calls := kek.unwraps()
		kek.unwrap = func(n int, right []byte) []byte {
			if n < calls+2 {
				return otherDataKey()
			}
			return right
		}
		for range 100 {
			if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnauthentic) {
				t.Fatalf("under a wrong data key: %v", err)
			}
		}
		if n := kek.unwraps() - calls; n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
		time.Sleep(aead.RefusalMemory)
		open(t, e, sealed)
	})
}

// wrongOnce is an AEAD that answers its next call with the data key of other values.
type wrongOnce struct {
	tink.AEAD
	wrong bool
}

func (w *wrongOnce) Decrypt(ciphertext, ad []byte) ([]byte, error) {
	if w.wrong {
		w.wrong = false
		return otherDataKey(), nil
	}
	return w.AEAD.Decrypt(ciphertext, ad)
}

// WithContext takes any AEAD, and one that is not Tink's may be wrong.
func TestWrongDataKeyOfAnAdaptedAEAD(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := tinkaead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	w := &wrongOnce{AEAD: a}
	sealed := seal(t, newEnvelope(t, aead.WithContext(w)), "message")
	e := newEnvelope(t, aead.WithContext(w))
	w.wrong = true
	open(t, e, sealed)
}

// A member that answers without an error, but not with a key, does not keep the set from asking the others.
func TestKEKSetMemberAnswersNoKey(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string][]byte{"a page": []byte("<html>502 Bad Gateway</html>"), "nothing": nil} {
		failing, sound := &erring{service: aeadtest.NewKeyService(t)}, aeadtest.NewKeyService(t)
		proxy := kekFunc(func(context.Context, []byte, []byte) ([]byte, error) { return bytes.Clone(answer), nil })
		sealed := seal(t, newEnvelope(t, sound), "message")
		open(t, newEnvelope(t, newKEKSet(t, sound, proxy)), sealed)

		e := newEnvelope(t, newKEKSet(t, failing, sound))
		failing.unwrap = func(int, []byte) []byte { return bytes.Clone(answer) }
		own := seal(t, newEnvelope(t, failing.service), "message")
		if _, err := e.DecryptWithContext(t.Context(), own, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s: a key of the failing member: %v", name, err)
		}
		var data bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &data, sound, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data.Bytes()), newKEKSet(t, proxy, sound))
		if err != nil {
			t.Errorf("%s: a keyset under the second member: %v", name, err)
			continue
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		e = newEnvelope(t, aeadtest.NewKeyService(t), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return sound, nil }))
		sealed = sealFor(t, newTenant(t, e, "acme"), "message")
		e = newEnvelope(t, aeadtest.NewKeyService(t), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) {
			return newKEKSet(t, proxy, sound), nil
		}))
		if got, err := openFor(newTenant(t, e, "acme"), sealed); err != nil || got != "message" {
			t.Errorf("%s: a tenant's value under the second member: %v", name, err)
		}
	}
}

// kekFunc is a KEK that only unwraps.
type kekFunc func(ctx context.Context, ciphertext, ad []byte) ([]byte, error)

func (kekFunc) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, errors.New("it wraps nothing")
}

func (f kekFunc) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	return f(ctx, ciphertext, ad)
}

// Any answer other than a data key is an outage. This includes an answer that begins as the data key of a tenant does.
func TestTenantAnswerWithoutDataKeyIsAnOutage(t *testing.T) {
	t.Parallel()
	for _, answer := range [][]byte{nil, {1}, append([]byte{1}, make([]byte, 80)...), []byte("<html>")} {
		answer := kekFunc(func(context.Context, []byte, []byte) ([]byte, error) { return bytes.Clone(answer), nil })
		e := newEnvelope(t, aeadtest.NewKeyService(t), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return answer, nil }))
		_, err := newTenant(t, e, "acme").DecryptWithContext(t.Context(), garbage(1), nil)
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%v", err)
		}
	}
}

// A KEK that cannot decide does not refuse, even if its error also wraps a refusal.
func TestOutageHidesRefusals(t *testing.T) {
	t.Parallel()
	for _, outage := range []error{aead.ErrKeyServiceUnavailable, context.Canceled} {
		kek := &failingUnwrap{KeyService: aeadtest.NewKeyService(t)}
		e := newEnvelope(t, kek)
		kek.err = fmt.Errorf("%w: %w: %w", aead.ErrUnauthentic, &aead.KeyError{KeyID: 7}, outage)
		_, err := e.DecryptWithContext(t.Context(), garbage(1), nil)
		var named *aead.KeyError
		if errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey) || errors.As(err, &named) {
			t.Errorf("a refusal shows through: %v", err)
		}
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, outage) {
			t.Errorf("the outage is lost: %v", err)
		}
	}
}

// A KEK that refuses to unwrap what it has just wrapped says nothing about any value.
func TestRefusalOfANewDataKeyIsAnOutage(t *testing.T) {
	t.Parallel()
	kek := &failingUnwrap{aeadtest.NewKeyService(t), aead.ErrUnknownKey}
	_, err := aead.NewEnvelope(t.Context(), kek)
	if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnknownKey) {
		t.Error(err)
	}
}

type failingUnwrap struct {
	*aeadtest.KeyService
	err error
}

func (k *failingUnwrap) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if k.err != nil {
		return nil, k.err
	}
	return k.KeyService.DecryptWithContext(ctx, ciphertext, ad)
}

// brokenError is an error whose methods panic, as those of a nil pointer do.
type brokenError struct{ cause error }

func (b *brokenError) Error() string { return b.cause.Error() }
func (b *brokenError) Unwrap() error { return b.cause }

// textlessError is a refusal whose text panics.
type textlessError struct{}

func (textlessError) Error() string { panic("no text") }
func (textlessError) Unwrap() error { return aead.ErrUnauthentic }

// An error whose methods panic is an outage, and does not end the process.
func TestErrorThatPanicsIsAnOutage(t *testing.T) {
	t.Parallel()
	for _, broken := range []error{(*brokenError)(nil), textlessError{}} {
		kek := &failingUnwrap{KeyService: aeadtest.NewKeyService(t)}
		e := newEnvelope(t, kek, aead.WithMaxMessages(1), aead.WithLogger(silent()))
		sealed := seal(t, newEnvelope(t, kek), "of another process")
		var data bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &data, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		kek.err = broken
		for name, call := range map[string]func() error{
			"open":        func() error { _, err := e.DecryptWithContext(t.Context(), sealed, nil); return err },
			"seal":        func() error { seal(t, e, "1"); _, err := e.EncryptWithContext(t.Context(), nil, nil); return err },
			"NewEnvelope": func() error { _, err := aead.NewEnvelope(t.Context(), kek); return err },
			"a KEKSet": func() error {
				_, err := newEnvelope(t, newKEKSet(t, aeadtest.NewKeyService(t), kek)).DecryptWithContext(t.Context(), sealed, nil)
				return err
			},
			"OpenKeyring": func() error {
				_, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data.Bytes()), kek)
				return err
			},
		} {
			err := call()
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || !strings.Contains(err.Error(), "panicked") {
				t.Errorf("%T, %s: %v", broken, name, err)
			}
		}
	}
}

// The refusal of a keyset's KEK also reaches a keyset that is sealed under the first one.
func TestRefusalReachesKeysetsOfKeysets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		under := func(kek tink.AEADWithContext) *aead.Keyring {
			var data bytes.Buffer
			if err := aead.CreateKeyset(t.Context(), &data, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
				t.Fatal(err)
			}
			k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data.Bytes()), kek, aead.WithKEKCheck(10*time.Minute), aead.WithLogger(silent()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { k.Close() })
			return k
		}
		upper := under(service)
		lower := under(upper)
		service.Refuse(true)
		time.Sleep(21 * time.Minute)
		synctest.Wait()
		if _, err := lower.Encrypt(nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("the lower keyset still seals: %v", err)
		}
		service.Refuse(false)
		time.Sleep(21 * time.Minute)
		synctest.Wait()
		if _, err := lower.Encrypt(nil, nil); err != nil {
			t.Errorf("after the KEK opens the upper keyset again: %v", err)
		}
	})
}

// hungOpener ignores its context, and opens a KEK when it is released.
type hungOpener struct {
	release chan struct{}
	closed  chan struct{}
}

func (o hungOpener) Schemes() []string { return []string{"hung"} }

func (o hungOpener) OpenKEK(_ context.Context, uri string) (tink.AEADWithContext, error) {
	if uri == "hung:panic" {
		panic("secret")
	}
	<-o.release
	return o, nil
}

func (o hungOpener) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, nil
}

func (o hungOpener) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, nil
}

func (o hungOpener) Close() error {
	close(o.closed)
	return nil
}

// An opener that reads a file on a mount that hangs does not hold its caller. Its KEK is closed if it comes too late.
func TestHungOpenerIsAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := hungOpener{make(chan struct{}), make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := aead.OpenKEK(ctx, "hung:", o); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		close(o.release)
		<-o.closed
		if _, err := aead.OpenKEK(t.Context(), "hung:panic", o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	})
}

// A set in a set rejects the same answers as the outer one.
func TestKEKSetInASetAnswersNoKey(t *testing.T) {
	t.Parallel()
	primary, sound := aeadtest.NewKeyService(t), aeadtest.NewKeyService(t)
	proxy := kekFunc(func(context.Context, []byte, []byte) ([]byte, error) {
		return []byte("<html>502 Bad Gateway</html>"), nil
	})
	sealed := seal(t, newEnvelope(t, sound), "message")
	open(t, newEnvelope(t, newKEKSet(t, primary, newKEKSet(t, proxy, sound))), sealed)
}

// inPlace is a KEK that uses the memory of its arguments for its own work.
type inPlace struct{ tink.AEADWithContext }

func (k inPlace) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	defer clear(ad)
	return k.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
}

func (k inPlace) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	defer clear(ad)
	defer clear(ciphertext)
	return k.AEADWithContext.DecryptWithContext(ctx, ciphertext, ad)
}

// A KEK that overwrites its arguments destroys neither wrapped data keys nor the context of later calls.
func TestKEKThatOverwritesItsArguments(t *testing.T) {
	t.Parallel()
	local := newKeyring(t)
	set, err := aead.NewKEKSet(inPlace{newKeyring(t)}, inPlace{local})
	if err != nil {
		t.Fatal(err)
	}
	for _, kek := range []tink.AEADWithContext{inPlace{local}, set} {
		writer := newEnvelope(t, local, aead.WithWrapContext(map[string]string{"app": "x"}))
		sealed := seal(t, writer, "message")
		e := newEnvelope(t, kek, aead.WithWrapContext(map[string]string{"app": "x"}), aead.WithMaxMessages(2))
		other := newEnvelope(t, kek, aead.WithWrapContext(map[string]string{"app": "x"}))
		for range 3 {
			open(t, e, sealed)
			open(t, other, seal(t, e, "message"))
		}
	}
}
