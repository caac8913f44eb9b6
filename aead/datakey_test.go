package aead_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// erring is a key service that can answer with something else, and no error. wrap and unwrap get the right answer and the
// number of the call, from 0.
type erring struct {
	service            *aeadtest.KeyService
	wrap, unwrap       func(call int, right []byte) []byte
	wraps, unwrapCalls atomic.Int64
}

func (k *erring) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	out, err := k.service.EncryptWithContext(ctx, plaintext, ad)
	if n := k.wraps.Add(1) - 1; err == nil && k.wrap != nil {
		out = k.wrap(int(n), out)
	}
	return out, err
}

func (k *erring) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	out, err := k.service.DecryptWithContext(ctx, ciphertext, ad)
	if n := k.unwrapCalls.Add(1) - 1; err == nil && k.unwrap != nil {
		out = k.unwrap(int(n), out)
	}
	return out, err
}

func (k *erring) unwraps() int { return int(k.unwrapCalls.Load()) }

// otherDataKey is a serialized data key that no value was sealed under.
func otherDataKey() []byte { return append([]byte("\x1a\x20"), bytes.Repeat([]byte("k"), 32)...) }

// A key service that answers a later wrap or its proof wrongly must not get a value sealed that opens for no other process.
func TestNewDataKeyIsProvedBeforeItSeals(t *testing.T) {
	t.Parallel()
	page := []byte("<html><body>502 Bad Gateway</body></html>")
	for name, c := range map[string]struct{ wrap, unwrap func([]byte) []byte }{
		"wrap: error page":    {wrap: func([]byte) []byte { return page }},
		"wrap: nothing":       {wrap: func([]byte) []byte { return nil }},
		"wrap: cut":           {wrap: func(b []byte) []byte { return b[:len(b)-1] }},
		"wrap: too long":      {wrap: func([]byte) []byte { return make([]byte, 5000) }},
		"unwrap: error page":  {unwrap: func([]byte) []byte { return page }},
		"unwrap: nothing":     {unwrap: func([]byte) []byte { return nil }},
		"unwrap: another key": {unwrap: func([]byte) []byte { return otherDataKey() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var broken atomic.Bool
				answer := func(wrong func([]byte) []byte) func(int, []byte) []byte {
					return func(_ int, right []byte) []byte {
						if wrong == nil || !broken.Load() {
							return right
						}
						return wrong(right)
					}
				}
				kek := &erring{service: aeadtest.NewKeyService(t), wrap: answer(c.wrap), unwrap: answer(c.unwrap)}
				e := newEnvelope(t, kek, aead.WithMaxMessages(8))
				broken.Store(true)
				var sealed [][]byte
				var err error
				for range 20 {
					var s []byte
					if s, err = e.EncryptWithContext(t.Context(), []byte("message"), nil); err != nil {
						break
					}
					sealed = append(sealed, s)
					synctest.Wait()
				}
				if len(sealed) != 8 || !errors.Is(err, aead.ErrKeyServiceUnavailable) {
					t.Errorf("%d values were sealed, then %v; want the 8 that the first data key may seal", len(sealed), err)
				}
				broken.Store(false)
				time.Sleep(10 * time.Second)
				sealed = append(sealed, seal(t, e, "message"))
				other := newEnvelope(t, kek)
				for _, s := range sealed {
					open(t, other, s)
				}
			})
		})
	}
}

// The first value that does not open asks the KEK once more. The second answer is taken, and given again without a call.
func TestWrongDataKeyIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		sealed := seal(t, newEnvelope(t, service), "message")
		proved := seal(t, newEnvelope(t, service), "message")
		provedKey, err := service.DecryptWithContext(t.Context(), []byte(header(t, proved)[4:]), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, wrong := range map[string][]byte{"unknown": otherDataKey(), "that of other values": provedKey} {
			kek := &erring{service: service}
			e := newEnvelope(t, kek)
			open(t, e, proved)
			calls := kek.unwraps()
			kek.unwrap = func(n int, right []byte) []byte {
				if n == calls {
					return bytes.Clone(wrong)
				}
				return right
			}
			open(t, e, sealed)
			open(t, e, sealed)
			open(t, e, proved)
			if n := kek.unwraps() - calls; n != 2 {
				t.Errorf("%s: %d calls, want 2", name, n)
			}
		}
		kek := &erring{service: service}
		e := newEnvelope(t, kek)
		calls := kek.unwraps()
		altered := bytes.Clone(sealed)
		altered[len(altered)-1] ^= 1
		for range 100 {
			if _, err := e.OpenTo(t.Context(), nil, altered, nil); !errors.Is(err, aead.ErrUnauthentic) {
				t.Fatal(err)
			}
		}
		if n := kek.unwraps() - calls; n != 2 {
			t.Errorf("100 readings of an altered value made %d calls, want 2", n)
		}
		inPlace := bytes.Clone(sealed)
		if opened, err := e.OpenTo(t.Context(), inPlace[:0], inPlace, nil); err != nil || string(opened) != "message" {
			t.Errorf("in place, under a data key that no value had proved: %q, %v", opened, err)
		}
	})
}

// A wrong data key that was accepted twice is found by the review, before its TTL.
func TestReviewReplacesWrongDataKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := &erring{service: aeadtest.NewKeyService(t)}
		sealed := seal(t, newEnvelope(t, kek), "message")
		e := newEnvelope(t, kek, aead.WithDataKeyTTL(time.Hour))
		calls := kek.unwraps()
		kek.unwrap = func(n int, right []byte) []byte {
			if n < calls+2 {
				return otherDataKey()
			}
			return right
		}
		if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("under a wrong data key: %v", err)
		}
		time.Sleep(46 * time.Minute)
		_, _ = e.DecryptWithContext(t.Context(), sealed, nil) // asks for a review
		synctest.Wait()
		open(t, e, sealed)
	})
}

// A review that gets another data key than values were opened under is a fault of the KEK, and changes nothing.
func TestReviewKeepsProvedDataKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		kek := &erring{service: aeadtest.NewKeyService(t)}
		sealed := seal(t, newEnvelope(t, kek), "message")
		e := newEnvelope(t, kek, aead.WithDataKeyTTL(time.Hour), aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		own := seal(t, e, "own")
		open(t, e, sealed)
		kek.unwrap = func(int, []byte) []byte { return otherDataKey() }
		began := time.Now()
		for time.Since(began) < 59*time.Minute {
			open(t, e, sealed)
			open(t, e, own)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("no error was logged: %s", log.String())
		}
		time.Sleep(2 * time.Minute)
		if _, err := e.DecryptWithContext(t.Context(), own, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("past the TTL, with another data key as the answer: %v", err)
		}
		kek.unwrap = nil
		open(t, e, sealed)
		open(t, e, own)
	})
}

// vault is a key service whose ciphertexts are text, which it accepts in many spellings.
type vault struct {
	tink.AEADWithContext
	calls atomic.Int64
}

func (v *vault) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	out, err := v.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
	return []byte("vault:v1:" + base64.StdEncoding.EncodeToString(out)), err
}

func (v *vault) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	v.calls.Add(1)
	_, text, _ := strings.Cut(strings.TrimPrefix(string(ciphertext), "vault:"), ":")
	in, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, aead.ErrUnauthentic
	}
	return v.AEADWithContext.DecryptWithContext(ctx, in, ad)
}

// spelled is sealed with its i-th spelling of the data key.
func spelled(t *testing.T, sealed []byte, i int) []byte {
	t.Helper()
	h := header(t, sealed)
	_, text, ok := strings.Cut(strings.TrimPrefix(h[4:], "vault:"), ":")
	if !ok {
		t.Fatal("not a ciphertext of this key service")
	}
	wrapped := fmt.Sprintf("vault:v%0*d:%s%s", 1+i%7, 1, text, strings.Repeat("\n", i/7))
	out := binary.BigEndian.AppendUint32(nil, uint32(len(wrapped)))
	return append(append(out, wrapped...), sealed[len(h):]...)
}

// One honest data key in many spellings costs no more calls than the burst and the rate, whether the values open or not. It is
// one data key in the cache, and the honest ones stay there.
func TestRespelledDataKeys(t *testing.T) {
	t.Parallel()
	for name, altered := range map[string]bool{"the values open": false, "the values do not open": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				kek := &vault{AEADWithContext: aeadtest.NewKeyService(t)}
				e := newEnvelope(t, kek, aead.WithDataKeyCache(3))
				own, honest, late := seal(t, e, "own"), seal(t, newEnvelope(t, kek), "message"), seal(t, newEnvelope(t, kek), "message")
				open(t, e, honest)
				planted := bytes.Clone(honest)
				if altered {
					planted[len(planted)-1] ^= 1
				}
				calls, began := kek.calls.Load(), time.Now()
				for i := range 10_000 {
					_, err := e.DecryptWithContext(t.Context(), spelled(t, planted, i+1), nil)
					switch {
					case errors.Is(err, aead.ErrTooManyDataKeys) && !errors.Is(err, aead.ErrKeyServiceUnavailable):
					case altered && errors.Is(err, aead.ErrUnauthentic), !altered && err == nil:
					default:
						t.Fatalf("spelling %d: %v", i, err)
					}
				}
				took := time.Since(began)
				if n := kek.calls.Load() - calls; float64(n) > aead.UnwrapBurst+aead.UnwrapRate*(took.Seconds()+1) {
					t.Errorf("%d calls in %v", n, took)
				}
				if took > 30*time.Second {
					t.Errorf("10,000 planted values were read in %v", took)
				}
				calls = kek.calls.Load()
				open(t, e, honest)
				open(t, e, own)
				if n := kek.calls.Load() - calls; n != 0 {
					t.Errorf("%d calls for data keys that were held before", n)
				}
				if s := e.Stats(); s.DataKeys != 2 || s.TooManyDataKeys == 0 || s.UnwrapFailures != 0 {
					t.Errorf("Stats: %+v", s)
				}
				open(t, e, late)
				open(t, e, honest)
				open(t, e, own)
			})
		})
	}
}

// Data keys that no value has proved are held, but displace none that a value has.
func TestUnprovedDataKeysDisplaceNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithDataKeyCache(4))
		honest := manyDataKeys(t, service, 3)
		for _, s := range honest {
			open(t, e, s)
		}
		for _, s := range manyDataKeys(t, service, 200) {
			s[len(s)-1] ^= 1
			if _, err := e.DecryptWithContext(t.Context(), s, nil); !errors.Is(err, aead.ErrUnauthentic) {
				t.Fatal(err)
			}
		}
		calls := service.Decrypts()
		for _, s := range honest {
			open(t, e, s)
		}
		if n := service.Decrypts() - calls; n != 0 {
			t.Errorf("%d proved data keys were displaced", n)
		}
		if n := e.Stats().DataKeys; n != 8 {
			t.Errorf("%d data keys are held, the bounds are 4 and 4", n)
		}
	})
}

// All forms of a data key leave with the one that is held among the proved ones. A form that values still use is then asked
// for again and held among the proved ones itself, out of reach of planted data keys.
func TestFormsOfAnEvictedDataKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := &vault{AEADWithContext: aeadtest.NewKeyService(t)}
		e := newEnvelope(t, kek, aead.WithDataKeyCache(4))
		first := seal(t, newEnvelope(t, kek), "message")
		other := spelled(t, first, 1)
		open(t, e, first)
		open(t, e, other)
		for range 8 { // they displace the first form
			open(t, e, seal(t, newEnvelope(t, kek), "message"))
		}
		open(t, e, other)
		for range 8 { // planted, and proved by no value
			planted := seal(t, newEnvelope(t, kek), "message")
			planted[len(planted)-1] ^= 1
			if _, err := e.DecryptWithContext(t.Context(), planted, nil); !errors.Is(err, aead.ErrUnauthentic) {
				t.Fatal(err)
			}
		}
		calls := kek.calls.Load()
		open(t, e, other)
		if n := kek.calls.Load() - calls; n != 0 {
			t.Errorf("planted data keys displaced one in use: %d calls", n)
		}
		if n := e.Stats().DataKeys; n > 8 {
			t.Errorf("%d data keys are held, the bounds are 4 and 4", n)
		}
	})
}

func TestResumeReplacesDataKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service)
		first := seal(t, e, "message")
		e.Resume()
		synctest.Wait()
		if service.Encrypts() != 1 {
			t.Error("an idle Envelope made a data key")
		}
		seal(t, e, "asks for a successor, and does not wait")
		synctest.Wait()
		second := seal(t, e, "message")
		if header(t, first) == header(t, second) || service.Encrypts() != 2 {
			t.Errorf("the data key was not replaced, or more than once: %d wraps", service.Encrypts())
		}
		open(t, e, first)
	})
}

// A suspension of the machine is noticed within a minute, and replaces the data keys of the Envelope and of its tenants.
func TestSuspensionIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return service, nil }))
		tenant, err := e.Tenant("acme")
		if err != nil {
			t.Fatal(err)
		}
		const text, noncePlusTag = "message", 28
		dataKey := func(a tink.AEADWithContext) string { // all before the nonce
			sealed, err := a.EncryptWithContext(t.Context(), []byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}
			return string(sealed[:len(sealed)-noncePlusTag-len(text)])
		}
		aeads := map[string]tink.AEADWithContext{"envelope": e, "tenant": tenant}
		dataKeys := func() map[string]string {
			keys := map[string]string{}
			for name, a := range aeads {
				dataKey(a) // asks for a successor, if one is due
				synctest.Wait()
				keys[name] = dataKey(a)
			}
			return keys
		}
		before := dataKeys()
		time.Sleep(2 * time.Minute)
		for name, key := range dataKeys() {
			if key != before[name] {
				t.Errorf("%s: the data key changed without a suspension", name)
			}
		}
		e.Suspend(2 * time.Second) // reaches the tenants through the Envelope
		time.Sleep(2 * time.Minute)
		for name, key := range dataKeys() {
			if key == before[name] {
				t.Errorf("%s: the data key stays after a suspension", name)
			}
		}
	})
}
