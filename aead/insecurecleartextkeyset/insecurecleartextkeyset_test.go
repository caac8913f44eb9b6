package insecurecleartextkeyset_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	tinkcleartext "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/signature"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

func create(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&buf, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestOpenKeyring(t *testing.T) {
	t.Parallel()
	jsonForm := create(t)
	handle, err := insecurecleartextkeyset.Handle(t.Context(), aead.BytesSource(jsonForm))
	if err != nil {
		t.Fatal(err)
	}
	var binaryForm bytes.Buffer
	if err := tinkcleartext.Write(handle, keyset.NewBinaryWriter(&binaryForm)); err != nil {
		t.Fatal(err)
	}
	theirs, err := tinkaead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := theirs.Encrypt([]byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"JSON": jsonForm, "binary": binaryForm.Bytes()} {
		k, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.BytesSource(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := k.Decrypt(sealed, nil); err != nil || string(got) != "message" {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Reload(t.Context()); err != nil {
			t.Errorf("%s: reload: %v", name, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		if _, err := insecurecleartextkeyset.Handle(t.Context(), aead.BytesSource(data)); err != nil {
			t.Errorf("%s: Handle: %v", name, err)
		}
	}
}

func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	broken := strings.Replace(string(create(t)), `"keyData"`, `"keyDatum"`, 1)
	material := broken[strings.Index(broken, `"value"`):][10:30]
	for name, err := range map[string]error{
		"OpenKeyring": second(insecurecleartextkeyset.OpenKeyring(t.Context(), aead.BytesSource([]byte(broken)))),
		"Handle":      second(insecurecleartextkeyset.Handle(t.Context(), aead.BytesSource([]byte(broken)))),
		"OpenPRF":     second(insecurecleartextkeyset.OpenPRF(t.Context(), aead.BytesSource([]byte(broken)))),
	} {
		if err == nil {
			t.Errorf("%s: a broken keyset was accepted", name)
		} else if strings.Contains(err.Error(), material) || strings.Contains(err.Error(), "keyDatum") {
			t.Errorf("%s: the error quotes the keyset: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

type shortWriter struct{}

func (shortWriter) Write([]byte) (int, error) { return 1, nil }

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	kek, err := aead.NewKeyring(handle)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if err := aead.CreateKeyset(ctx, &sealed, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"a sealed keyset":        second(insecurecleartextkeyset.OpenKeyring(ctx, aead.BytesSource(sealed.Bytes()))),
		"associated data":        second(insecurecleartextkeyset.OpenKeyring(ctx, aead.BytesSource(create(t)), aead.WithAssociatedData(nil))),
		"no source":              second(insecurecleartextkeyset.Handle(ctx, nil)),
		"a missing file":         second(insecurecleartextkeyset.Handle(ctx, aead.FileSource("/does/not/exist"))),
		"a large keyset":         second(insecurecleartextkeyset.Handle(ctx, aead.BytesSource(make([]byte, aead.MaxKeysetBytes+1)))),
		"a nil template":         insecurecleartextkeyset.CreateKeyset(io.Discard, nil),
		"a signature template":   insecurecleartextkeyset.CreateKeyset(io.Discard, signature.ED25519KeyTemplate()),
		"a writer that is short": insecurecleartextkeyset.CreateKeyset(shortWriter{}, tinkaead.AES256GCMKeyTemplate()),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := insecurecleartextkeyset.OpenKeyring(ctx, aead.FileSource("/does/not/exist")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestOpenPRF(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&buf, prf.HMACSHA256PRFKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	set, err := insecurecleartextkeyset.OpenPRF(t.Context(), aead.BytesSource(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := set.ComputePrimaryPRF([]byte("x"), 32); err != nil || len(out) != 32 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func ExampleOpenKeyring() {
	// A keyset on the spot, for a program on a developer's machine.
	var file bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&file, tinkaead.AES256GCMKeyTemplate()); err != nil {
		fmt.Println(err)
		return
	}
	keyring, err := insecurecleartextkeyset.OpenKeyring(context.Background(), aead.BytesSource(file.Bytes()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer keyring.Close()
	fmt.Println(len(keyring.Keys()), keyring.Keys()[0].Type)
	// Output: 1 AesGcmKey
}

// sourceFunc is a source of the application.
type sourceFunc func() ([]byte, error)

func (f sourceFunc) Load(context.Context) ([]byte, error) { return f() }

// A source that ignores its context, or panics, fails the reading and nothing else.
func TestHandleAbandonsASource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		hung := sourceFunc(func() ([]byte, error) {
			<-hang
			return nil, errors.New("too late")
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, ctx := range []context.Context{ctx, t.Context()} {
			_, err := insecurecleartextkeyset.Handle(ctx, hung)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		_, err := insecurecleartextkeyset.Handle(t.Context(), sourceFunc(func() ([]byte, error) { panic("secret") }))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	})
}
