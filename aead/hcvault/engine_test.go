package hcvault_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
)

// newEngine returns a transit engine with the key "cache". The module vaulttest has the real one.
func newEngine(t *testing.T) servertest.Engine {
	t.Helper()
	a, err := subtle.NewAESGCM(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return func(path string, body map[string]any) (int, map[string]any, []string) {
		operation, key, _ := strings.Cut(path, "/")
		field := func(name string) []byte {
			s, _ := body[name].(string)
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				t.Errorf("%s is not in base64", name)
			}
			return b
		}
		switch {
		case key != "cache":
			return http.StatusBadRequest, nil, []string{"encryption key not found"}
		case operation == "encrypt":
			out, err := a.Encrypt(field("plaintext"), field("associated_data"))
			if err != nil {
				t.Error(err)
			}
			return 0, map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(out)}, nil
		default:
			sealed, _ := body["ciphertext"].(string)
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sealed, "vault:v1:"))
			if err != nil {
				t.Error(err)
			}
			out, err := a.Decrypt(raw, field("associated_data"))
			if err != nil {
				return http.StatusBadRequest, nil, []string{"cipher: message authentication failed"}
			}
			return 0, map[string]any{"plaintext": base64.StdEncoding.EncodeToString(out)}, nil
		}
	}
}
