package vaulttest_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
)

// The transit engine gets a wrap context as associated_data, and refuses a data key without it.
func TestWrapContext(t *testing.T) {
	t.Parallel()
	var last any
	e := newEngine(t)
	e.create("cache")
	s := servertest.New(t, func(path string, body map[string]any) (int, map[string]any, []string) {
		if strings.HasPrefix(path, "encrypt/") {
			last = body["associated_data"]
		}
		return e.handle(path, body)
	}, false, token)
	kek := open(t, s)
	envelope := func(opts ...aead.EnvelopeOption) *aead.Envelope {
		t.Helper()
		e, err := aead.NewEnvelope(t.Context(), kek, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	bound := envelope(aead.WithWrapContext(map[string]string{"namespace": "shop"}))
	want := base64.StdEncoding.EncodeToString([]byte(`sealcache.wrap.v1 {"namespace":"shop"}`))
	if last != want {
		t.Errorf("Vault saw %q", last)
	}
	sealed, err := bound.EncryptWithContext(t.Context(), []byte("value"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := envelope(aead.WithWrapContext(map[string]string{"namespace": "shop"})).DecryptWithContext(t.Context(), sealed, nil)
	if err != nil || string(opened) != "value" {
		t.Errorf("%q, %v", opened, err)
	}
	for what, opts := range map[string][]aead.EnvelopeOption{
		"without context": nil,
		"another context": {aead.WithWrapContext(map[string]string{"namespace": "Shop"})},
	} {
		_, err := envelope(opts...).DecryptWithContext(t.Context(), sealed, nil)
		if !errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
