package hcvault

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

// transit makes the calls of one key of a transit engine. It sends what Tink's integration sends (NewClientWithAEADOptions),
// with a context.
type transit struct {
	client     *api.Client
	mount, key string
	session    *session // nil if the application owns the client
	opening    bool     // the key is not open yet, so that a failure ends the start and should say all
}

// Wrap implements keyservice.Client.
func (t *transit) Wrap(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	out, err := t.call(ctx, "encrypt", "ciphertext", map[string]any{
		"plaintext":       base64.StdEncoding.EncodeToString(plaintext),
		"associated_data": base64.StdEncoding.EncodeToString(associatedData),
	})
	if err == nil && !wellFormed(out) {
		return nil, &keyservice.Failure{Reason: "the answer of Vault is not a ciphertext of its transit engine"}
	}
	return []byte(out), err
}

// Unwrap implements keyservice.Client. Vault accepts other spellings of a ciphertext (leading zeros, line ends in the
// base64). They are refused here, so that a wrapped key has one spelling.
func (t *transit) Unwrap(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if !wellFormed(string(ciphertext)) {
		return nil, keyservice.Refuse(aead.ErrUnauthentic, "the ciphertext does not have the format of Vault's transit engine (vault:v1:...)", nil)
	}
	out, err := t.call(ctx, "decrypt", "plaintext", map[string]any{
		"ciphertext":      string(ciphertext),
		"associated_data": base64.StdEncoding.EncodeToString(associatedData),
	})
	if err != nil {
		return nil, err
	}
	plaintext, err := base64.StdEncoding.DecodeString(out)
	if err != nil {
		return nil, &keyservice.Failure{Reason: "the answer of Vault is not in base64"} // the error would quote plaintext
	}
	return plaintext, nil
}

// Probe implements keyservice.Client.
func (t *transit) Probe(ctx context.Context) error {
	garbage := make([]byte, 60)
	rand.Read(garbage)
	_, err := t.Unwrap(ctx, []byte(ciphertextPrefix+"1:"+base64.StdEncoding.EncodeToString(garbage)), nil)
	var f *keyservice.Failure
	switch {
	case err == nil:
		return &keyservice.Failure{Reason: "the key service decrypts random bytes that it never encrypted (use another key or service)"}
	case errors.As(err, &f) && f.Refusal != nil && f.Reason != reasonNoKey:
		return nil
	}
	return err
}

// Close implements keyservice.Client.
func (t *transit) Close() error {
	if t.session != nil {
		t.session.close()
	}
	return nil
}

// call writes to one path of the engine and returns one string of the answer. If the token has ended, it calls again under a
// new one.
func (t *transit) call(ctx context.Context, operation, want string, body map[string]any) (string, error) {
	path := t.mount + "/" + operation + "/" + t.key
	var used string
	if t.session != nil {
		used = t.session.client.Token()
	}
	secret, err := t.client.Logical().WriteWithContext(ctx, path, body)
	if t.session != nil && hasStatus(err, http.StatusForbidden) && t.session.replaceToken(ctx, used) {
		secret, err = t.client.Logical().WriteWithContext(ctx, path, body)
	}
	if err != nil {
		f := classify(err, fmt.Sprintf("grant %q on the path %q", "update", path))
		if t.opening && hasStatus(err, http.StatusForbidden) {
			t.explainDenial(ctx, f)
		}
		return "", f
	}
	if secret != nil {
		if s, ok := secret.Data[want].(string); ok {
			return s, nil
		}
	}
	return "", &keyservice.Failure{Reason: "the answer of Vault contains no " + want}
}

// explainDenial tells a missing permission from a missing or ended token, which get the same answer.
func (t *transit) explainDenial(ctx context.Context, denied *keyservice.Failure) {
	if t.client.Token() == "" {
		denied.Reason, denied.Remedy = "no Vault token", "set VAULT_TOKEN, or add a login to the URI"
		return
	}
	// A token without the default policy may not look itself up. Then the answer stays open.
	if _, err := t.client.Auth().Token().LookupSelfWithContext(ctx); err == nil {
		denied.Reason = "permission denied"
	}
}

const ciphertextPrefix = "vault:v"

// wellFormed reports whether Vault itself would spell a ciphertext like this.
func wellFormed(s string) bool {
	version, encoded, ok := strings.Cut(strings.TrimPrefix(s, ciphertextPrefix), ":")
	n, err := strconv.ParseUint(version, 10, 31)
	if !ok || !strings.HasPrefix(s, ciphertextPrefix) || err != nil || n == 0 || strconv.FormatUint(n, 10) != version {
		return false
	}
	const overhead = 12 + 16 // nonce and tag
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return err == nil && len(raw) >= overhead && base64.StdEncoding.EncodeToString(raw) == encoded
}

func hasStatus(err error, status int) bool {
	var r *api.ResponseError
	return errors.As(err, &r) && r.StatusCode == status
}

const (
	reasonNoKey = "the key does not exist in the key service"
	reasonType  = "the key's type does not authenticate associated data (make an aes256-gcm96 key)"
)

// refusals are texts with which Vault refuses a ciphertext for good. The first match counts.
func refusals() []struct {
	text   string
	as     error
	reason string
} {
	return []struct {
		text   string
		as     error
		reason string
	}{
		{"encryption key not found", aead.ErrUnknownKey, reasonNoKey},
		{"version is too new", aead.ErrUnknownKey, "the ciphertext needs a key version that does not exist in Vault"},
		{"disallowed by policy (too old)", aead.ErrUnknownKey, "the ciphertext needs a key version below min_decryption_version"},
		{"no such key version", aead.ErrUnknownKey, "the ciphertext needs a key version that was removed from Vault"},
		{"message authentication failed", aead.ErrUnauthentic, "Vault reports that the ciphertext was altered or belongs to another key"},
		{"invalid ciphertext", aead.ErrUnauthentic, "Vault cannot read the ciphertext"},
	}
}

// classify tells a refusal from an outage. An answer that it does not know is an outage.
func classify(err error, remedy string) *keyservice.Failure {
	var r *api.ResponseError
	if !errors.As(err, &r) {
		return keyservice.Unreached(err)
	}
	f := &keyservice.Failure{Reason: "the key service answered with HTTP status " + strconv.Itoa(r.StatusCode), Cause: err}
	switch r.StatusCode {
	case http.StatusBadRequest:
		text := strings.Join(r.Errors, "\n")
		if r.RawError { // a proxy answers in Vault's place, or Go's server before Vault
			if strings.Contains(text, "HTTP request to an HTTPS server") {
				f.Reason = "the server speaks TLS (use https)"
			}
			return f
		}
		for _, refusal := range refusals() {
			if strings.Contains(text, refusal.text) {
				return keyservice.Refuse(refusal.as, refusal.reason, err)
			}
		}
		switch {
		case strings.Contains(text, "missing 'context' for key derivation"):
			f.Reason = "the key was made with derived=true (make one with derived=false)"
		case strings.Contains(text, "non-AEAD"), strings.Contains(text, "not supported for key type"):
			f.Reason = reasonType
		}
	case http.StatusInternalServerError:
		if strings.Contains(strings.Join(r.Errors, "\n"), "failed to RSA decrypt") {
			f.Reason = reasonType
		}
	case http.StatusForbidden:
		f.Reason, f.Remedy = "permission denied, or the token is wrong or has expired", remedy
	case http.StatusNotFound:
		f.Reason = "no transit engine is mounted at this path"
	case http.StatusTooManyRequests:
		f.Reason = "the key service throttled the call"
	case http.StatusServiceUnavailable:
		f.Reason = "Vault is sealed or in maintenance"
	}
	return f
}
