package awskms_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// KMS gets the names and values of a wrap context, which CloudTrail shows, and refuses a data key without them.
func TestWrapContext(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	envelope := func(opts ...aead.EnvelopeOption) *aead.Envelope {
		t.Helper()
		e, err := aead.NewEnvelope(t.Context(), kek, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	tenants := aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil })
	e := envelope(aead.WithWrapContext(map[string]string{"namespace": "shop"}), tenants)
	acme, err := e.Tenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sealer tink.AEADWithContext
		want   map[string]string
	}{
		"envelope": {e, map[string]string{"namespace": "shop"}},
		"tenant":   {acme, map[string]string{"namespace": "shop", "tenant": "acme"}},
	} {
		sealed, err := c.sealer.EncryptWithContext(t.Context(), []byte("value"), nil)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		f.set(func() {
			for _, s := range f.seen {
				if maps.Equal(s, c.want) {
					seen++
				}
			}
		})
		if seen != 2 {
			t.Errorf("%s: KMS saw the context %d times, want one Encrypt and one Decrypt: %v", name, seen, f.seen)
		}
		if opened, err := c.sealer.DecryptWithContext(t.Context(), sealed, nil); err != nil || string(opened) != "value" {
			t.Errorf("%s: %q, %v", name, opened, err)
		}
		for what, opts := range map[string][]aead.EnvelopeOption{
			"without context": nil,
			"another context": {aead.WithWrapContext(map[string]string{"namespace": "Shop"})},
		} {
			_, err := envelope(opts...).DecryptWithContext(t.Context(), sealed, nil)
			if !errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}
