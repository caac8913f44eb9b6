package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

func TestNewEnvelopeValidates(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]aead.EnvelopeOption{
		"WithMaxMessages(0)":                aead.WithMaxMessages(0),
		"WithMaxMessages(":                  aead.WithMaxMessages(1<<32 + 1),
		"WithMaxBytes(0)":                   aead.WithMaxBytes(0),
		"WithMaxBytes(":                     aead.WithMaxBytes(1<<48 + 1),
		"WithMaxAge(0s)":                    aead.WithMaxAge(0),
		"WithMaxAge(-1s)":                   aead.WithMaxAge(-time.Second),
		"WithDataKeyCache(0)":               aead.WithDataKeyCache(0),
		"WithDataKeyCache(-1)":              aead.WithDataKeyCache(-1),
		"WithDataKeyCache(1048577)":         aead.WithDataKeyCache(1<<20 + 1),
		"WithDataKeyTTL(0s)":                aead.WithDataKeyTTL(0),
		"WithDataKeyTTL(-1m0s)":             aead.WithDataKeyTTL(-time.Minute),
		`not allow data keys of type ""`:    aead.WithDataKeyTemplate(nil),
		`"XAesGcmKey"`:                      aead.WithDataKeyTemplate(tinkaead.XAES256GCM192BitNonceKeyTemplate()),
		`not allow data keys of type "Hmac`: aead.WithDataKeyTemplate(mac.HMACSHA256Tag256KeyTemplate()),
		"WithLogger: the logger is nil":     aead.WithLogger(nil),
		"option 1 of 1 is nil":              nil,
	} {
		service := aeadtest.NewKeyService(t)
		e, err := aead.NewEnvelope(t.Context(), service, opt)
		if err == nil {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not say what is wrong: %v", name, err)
		}
		if service.Encrypts() != 0 {
			t.Errorf("%s: the key service was called", name)
		}
	}
	var sealed bytes.Buffer
	if err := aead.CreateKeyset(t.Context(), &sealed, newKeyring(t), tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	for name, kek := range map[string]tink.AEADWithContext{
		"nil": nil, "nil Keyring": (*aead.Keyring)(nil), "nil Envelope": (*aead.Envelope)(nil), "nil pointer of another type": (*kekFuncs)(nil),
		"nil Keyring embedded": decorated{},
	} {
		src := aead.BytesSource(sealed.Bytes())
		for function, err := range map[string]error{
			"NewEnvelope":  second(aead.NewEnvelope(t.Context(), kek)),
			"OpenKeyring":  second(aead.OpenKeyring(t.Context(), src, kek)),
			"OpenPRF":      second(aead.OpenPRF(t.Context(), src, kek)),
			"CreateKeyset": aead.CreateKeyset(t.Context(), io.Discard, kek, tinkaead.AES256GCMKeyTemplate()),
		} {
			if err == nil {
				t.Errorf("%s: %s was accepted as a KEK", function, name)
			} else if kek != (decorated{}) && !strings.Contains(err.Error(), "the key-encryption key is nil") {
				t.Errorf("%s: %s was called: %v", function, name, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNewEnvelopeLimitsAtTheirEnds(t *testing.T) {
	t.Parallel()
	e := newEnvelope(t, newKeyring(t), aead.WithMaxMessages(1<<32), aead.WithMaxBytes(1<<48), aead.WithMaxAge(1<<63-1), aead.WithDataKeyTTL(1<<63-1))
	open(t, e, seal(t, e, "message"))
}

// kekFuncs is a KEK made of two functions.
type kekFuncs struct {
	encrypt, decrypt func(ctx context.Context, in []byte) ([]byte, error)
}

func (k kekFuncs) EncryptWithContext(ctx context.Context, in, _ []byte) ([]byte, error) {
	return k.encrypt(ctx, in)
}

func (k kekFuncs) DecryptWithContext(ctx context.Context, in, _ []byte) ([]byte, error) {
	return k.decrypt(ctx, in)
}

func TestNewEnvelopeProvesItsKEK(t *testing.T) {
	t.Parallel()
	ring := newKeyring(t)
	ok := kekFuncs{
		encrypt: func(ctx context.Context, in []byte) ([]byte, error) { return ring.EncryptWithContext(ctx, in, nil) },
		decrypt: func(ctx context.Context, in []byte) ([]byte, error) { return ring.DecryptWithContext(ctx, in, nil) },
	}
	identity := func(_ context.Context, in []byte) ([]byte, error) { return append([]byte(nil), in...), nil }
	for name, c := range map[string]struct {
		kek  kekFuncs
		want string
	}{
		"a KEK that encrypts nothing": {kekFuncs{identity, identity}, "does not encrypt"},
		"a KEK that adds a prefix": {kekFuncs{func(_ context.Context, in []byte) ([]byte, error) {
			return append([]byte("prefix"), in...), nil
		}, identity}, "does not encrypt"},
		"a KEK that returns nothing": {kekFuncs{func(context.Context, []byte) ([]byte, error) { return nil, nil }, ok.decrypt}, "0 bytes"},
		"a KEK that returns too much": {kekFuncs{func(context.Context, []byte) ([]byte, error) {
			return make([]byte, 4097), nil
		}, ok.decrypt}, "4097 bytes"},
		"a KEK that unwraps another key": {kekFuncs{ok.encrypt, func(ctx context.Context, in []byte) ([]byte, error) {
			out, err := ok.decrypt(ctx, in)
			out[len(out)-1] ^= 1
			return out, err
		}}, "decrypted it to something else"},
		"a KEK that unwraps no key": {kekFuncs{ok.encrypt, func(context.Context, []byte) ([]byte, error) {
			return []byte("<html>"), nil
		}}, "decrypted it to something else"},
		"a KEK that may not unwrap": {kekFuncs{ok.encrypt, func(context.Context, []byte) ([]byte, error) {
			return nil, errors.New("permission denied")
		}}, "permission denied"},
		"a KEK that panics": {kekFuncs{func(context.Context, []byte) ([]byte, error) { panic("secret") }, ok.decrypt}, "panicked with a value of type string"},
	} {
		e, err := aead.NewEnvelope(t.Context(), c.kek)
		if err == nil {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			t.Errorf("%s was accepted", name)
		} else if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewEnvelopeFailsWithItsKeyService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		service.Fail(aeadtest.ErrOutage)
		if _, err := aead.NewEnvelope(t.Context(), service); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, aeadtest.ErrOutage) {
			t.Errorf("a service that is down: %v", err)
		}
		service.Fail(nil)
		service.Gone(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := aead.NewEnvelope(ctx, service); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a service that is gone: %v", err)
		}
	})
}

// The KEK has not refused a value if its answer is not a data key: a proxy may have answered. The answer is an outage, which is
// not remembered.
func TestWrappedRubbish(t *testing.T) {
	t.Parallel()
	for name, template := range dataKeyTemplates() {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithDataKeyTemplate(template))
		for _, rubbish := range []string{"", "rubbish", strings.Repeat("\x00", 34), "\x1a\x20" + strings.Repeat("k", 31), "\x08\x07\x1a\x10" + strings.Repeat("k", 16)} {
			wrapped, err := service.EncryptWithContext(t.Context(), []byte(rubbish), nil)
			if err != nil {
				t.Fatal(err)
			}
			sealed := append([]byte{0, 0, 0, byte(len(wrapped))}, wrapped...)
			sealed = append(sealed, make([]byte, 64)...)
			calls := service.Decrypts()
			for range 2 {
				_, err := e.DecryptWithContext(t.Context(), sealed, nil)
				if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
					t.Errorf("%s: a wrapped %q: %v", name, rubbish, err)
				}
			}
			if n := service.Decrypts() - calls; n != 2 {
				t.Errorf("%s: a wrapped %q: two readings made %d calls", name, rubbish, n)
			}
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	ring := newKeyring(t)
	passphrase, err := aead.NewCheapPassphraseKEK(t.Context(), "correct horse battery staple", "a salt of 16 byt")
	if err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string]any{
		"aead.Envelope(AesGcmKey)":   newEnvelope(t, ring),
		"aead.Keyring(1 keys":        ring,
		"aead: passphrase KEK":       passphrase,
		"aead.BytesSource(6 bytes)":  aead.BytesSource([]byte("secret")),
		"aead.EnvSource(KEYSET)":     aead.EnvSource("KEYSET"),
		"aead.EnvSource((name not s": aead.EnvSource(`{"key": "secret"}`),
		"aead.FileSource(/run/ks)":   aead.FileSource("/run/ks"),
		"aead.FileSource(not a pat":  aead.FileSource(`{"key": "secret"}`),
		"aead.WithContext(...)":      aead.WithContext(plainAEAD{"secret"}),
		"aeadtest.KeyService":        aeadtest.NewKeyService(t),
	} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q", "%o"} {
			if _, ok := v.(fmt.Formatter); !ok && len(format) == 2 && strings.Contains("dxqo", format[1:]) {
				continue // the fake key service
			}
			got := fmt.Sprintf(format, v)
			if !strings.HasPrefix(got, want) || strings.Contains(got, "horse") || strings.Contains(got, "secret") {
				t.Errorf("%s of %T: %q", format, v, got)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		if got := log.String(); strings.Contains(got, "horse") || strings.Contains(got, "secret") {
			t.Errorf("%T in a log: %s", v, got)
		}
	}
}

type plainAEAD struct{ secret string }

func (plainAEAD) Encrypt(in, _ []byte) ([]byte, error) { return in, nil }
func (plainAEAD) Decrypt([]byte, []byte) ([]byte, error) {
	return nil, errors.New("the primitive's own error")
}

func TestWithContext(t *testing.T) {
	t.Parallel()
	_, err := aead.WithContext(plainAEAD{}).DecryptWithContext(t.Context(), nil, nil)
	if !errors.Is(err, aead.ErrUnauthentic) || !strings.Contains(err.Error(), "the primitive's own error") {
		t.Errorf("a local primitive's failure: %v", err)
	}
	none := aead.WithContext(nil)
	if _, err := none.EncryptWithContext(t.Context(), nil, nil); err == nil {
		t.Error("a nil AEAD seals")
	}
	if _, err := none.DecryptWithContext(t.Context(), nil, nil); err == nil || errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("a nil AEAD: %v", err)
	}
	ring := newKeyring(t)
	if aead.WithContext(ring) != tink.AEADWithContext(ring) {
		t.Error("a Keyring is wrapped")
	}
}

func TestAllocations(t *testing.T) {
	if testing.CoverMode() != "" || raceEnabled {
		t.Skip("instrumentation allocates")
	}
	ring := newKeyring(t)
	for name, a := range map[string]aead.AppendAEAD{"Keyring": ring, "Envelope": newEnvelope(t, ring)} {
		ctx, plaintext, ad, buf := t.Context(), make([]byte, 1024), make([]byte, 32), make([]byte, 0, 2048)
		if n := testing.AllocsPerRun(100, func() {
			sealed, err := a.SealTo(ctx, buf, plaintext, ad)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.OpenTo(ctx, sealed[:0], sealed, ad); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: sealing and opening with room allocates %v times", name, n)
		}
	}
}

func TestKeysAgeInSuspendedMachines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := aead.NewAgeClock()
		for _, step := range []struct {
			what            string
			wall, monotonic time.Duration
			want            time.Duration
		}{
			{"nothing happened", time.Hour, time.Hour, 0},
			{"ordinary drift", time.Hour + 900*time.Millisecond, time.Hour, 0},
			{"the wall clock was set back", -time.Hour, time.Hour, 0},
			{"the machine slept for two days", 49 * time.Hour, time.Hour, 48 * time.Hour},
			{"the wall clock was set back again", time.Hour, time.Hour, 48 * time.Hour},
			{"it slept for another", 74 * time.Hour, 2 * time.Hour, 72 * time.Hour},
		} {
			c.Observe(step.wall, step.monotonic)
			if got := c.Now(); got != step.want {
				t.Errorf("%s: the clock reads %v, want %v", step.what, got, step.want)
			}
		}
	})
}
