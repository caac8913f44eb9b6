package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// failingAEAD is a local AEAD that fails.
type failingAEAD struct{ err error }

func (f failingAEAD) Encrypt([]byte, []byte) ([]byte, error) { return nil, f.err }
func (f failingAEAD) Decrypt([]byte, []byte) ([]byte, error) { return nil, f.err }

type brokenWriter struct{ err error }

func (f brokenWriter) Write([]byte) (int, error) { return 0, f.err }

// An error of foreign code whose text panics, or quotes such a panic, shows no value of the panic. errors.Is finds its causes.
func TestPanicOfAnErrorIsNotShown(t *testing.T) {
	t.Parallel()
	errCause := errors.New("the cause")
	panicking := sealtest.PanickingError{Cause: errCause}
	quoting := fmt.Errorf("the client failed: %w", panicking)
	var log bytes.Buffer
	logged := slog.New(slog.NewTextHandler(&log, nil))
	for name, call := range map[string]func(broken error) error{
		"seal": func(broken error) error {
			_, err := aead.WithContext(failingAEAD{broken}).EncryptWithContext(t.Context(), nil, nil)
			return err
		},
		"open": func(broken error) error {
			_, err := aead.WithContext(failingAEAD{broken}).DecryptWithContext(t.Context(), nil, nil)
			return err
		},
		"a marked refusal": func(broken error) error {
			_, err := aead.WithContext(failingAEAD{sealtest.PanickingError{Cause: errors.Join(broken, aead.ErrUnknownKey)}}).DecryptWithContext(t.Context(), nil, nil)
			return fmt.Errorf("wrapped: %w", err)
		},
		"a KEKSet": func(broken error) error {
			set := newKEKSet(t, aeadtest.NewKeyService(t), aead.WithContext(failingAEAD{broken}))
			_, err := set.DecryptWithContext(t.Context(), []byte("no key wrapped this"), nil)
			return err
		},
		"the writer of a keyset": func(broken error) error {
			return aead.CreateKeyset(t.Context(), brokenWriter{broken}, aeadtest.NewKeyService(t), tinkaead.AES256GCMKeyTemplate())
		},
		"the cause of a context": func(broken error) error {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(broken)
			_, err := newEnvelope(t, aeadtest.NewKeyService(t)).DecryptWithContext(ctx, nil, nil)
			return err
		},
		"the function of WithTenants": func(broken error) error {
			e := newEnvelope(t, aeadtest.NewKeyService(t), aead.WithLogger(logged), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) {
				return nil, broken
			}))
			tenant, err := e.Tenant("a")
			if err != nil {
				return err
			}
			_, err = tenant.EncryptWithContext(t.Context(), nil, nil)
			return err
		},
	} {
		for kind, broken := range map[string]error{"panics": panicking, "quotes": quoting} {
			err := call(broken)
			if err == nil || strings.Contains(err.Error(), sealtest.PanicSecret) || !strings.Contains(err.Error(), "panicked") || !errors.Is(err, errCause) {
				t.Errorf("%s, which %s: %v", name, kind, err)
			}
		}
	}
	// The errors of a KEK that panic are TestErrorThatPanicsIsAnOutage.
	kek := &failingUnwrap{KeyService: aeadtest.NewKeyService(t)}
	e := newEnvelope(t, kek, aead.WithLogger(logged))
	sealed := seal(t, newEnvelope(t, kek), "of another process")
	kek.err = quoting
	if _, err := e.DecryptWithContext(t.Context(), sealed, nil); err == nil || strings.Contains(err.Error(), sealtest.PanicSecret) || !errors.Is(err, errCause) {
		t.Error(err)
	}
	if strings.Contains(log.String(), sealtest.PanicSecret) {
		t.Error(log.String())
	}
}

type brokenSource func()

func (f brokenSource) Load(context.Context) ([]byte, error) {
	f()
	return nil, nil
}

// A Source that panics or ends its goroutine is an error that names the Source, and shows no value of the panic.
func TestSourceThatBreaks(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]brokenSource{"panicked with a value of type string": func() { panic("secret") }, "called runtime.Goexit": runtime.Goexit} {
		_, err := aead.OpenKeyring(t.Context(), f, newKeyring(t))
		if want = "the Load method of the Source " + want; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
