package aead_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// tenantVectors is testdata/tenants.json.
type tenantVectors struct {
	KEK    json.RawMessage // a plaintext Tink keyset
	Values []struct {
		Tenant                                        string
		Sealed, AssociatedData, Plaintext, Commitment []byte
	}
	Refused []struct {
		Reason, Tenant         string
		Sealed, AssociatedData []byte
	}
}

const tenantVectorsFile = "testdata/tenants.json"

func TestTenantVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(tenantVectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v tenantVectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	kek, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.BytesSource(v.KEK))
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	e := newEnvelope(t, newKeyring(t), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }))
	if len(v.Values) == 0 || len(v.Refused) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.Values {
		got, err := newTenant(t, e, c.Tenant).DecryptWithContext(t.Context(), c.Sealed, c.AssociatedData)
		if err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: %q, %v", c.Tenant, got, err)
		}
		header, _, _ := aead.SplitEnvelope(c.Sealed)
		inner, err := kek.Decrypt(header[4:], nil)
		if err != nil || !bytes.Equal(inner[1:33], c.Commitment) || !bytes.Equal(aead.TenantCommitment(c.Tenant, inner[33:]), c.Commitment) {
			t.Errorf("%s: another commitment, %v", c.Tenant, err)
		}
	}
	for _, c := range v.Refused {
		if _, err := newTenant(t, e, c.Tenant).DecryptWithContext(t.Context(), c.Sealed, c.AssociatedData); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s: %v", c.Reason, err)
		}
	}
}

// answeringKEK unwraps everything to the same bytes.
type answeringKEK struct {
	tink.AEADWithContext

	answer []byte
}

func (k *answeringKEK) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return bytes.Clone(k.answer), nil
}

// FuzzTenantDataKey: a data key is taken only with its commitment, and nothing panics.
func FuzzTenantDataKey(f *testing.F) {
	key := append([]byte("\x1a\x20"), bytes.Repeat([]byte("k"), 32)...)
	good := append(append([]byte{1}, aead.TenantCommitment("acme", key)...), key...)
	f.Add(good)
	f.Add(key)
	f.Add(good[:33])
	f.Fuzz(func(t *testing.T, unwrapped []byte) {
		got, err := aead.UnwrapForTenant("acme", tinkaead.AES256GCMKeyTemplate().GetTypeUrl(), &answeringKEK{answer: unwrapped})
		committed := len(unwrapped) > 33 && unwrapped[0] == 1 && bytes.Equal(unwrapped[1:33], aead.TenantCommitment("acme", unwrapped[33:]))
		if (err == nil) != committed || err == nil && !bytes.Equal(got, unwrapped[33:]) {
			t.Fatalf("%x: %v", unwrapped, err)
		}
	})
}
