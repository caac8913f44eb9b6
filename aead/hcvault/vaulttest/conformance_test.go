package vaulttest_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	tinkvault "github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/hcvault"
	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
)

const keyURI = "hcvault:///transit/keys/cache"

// client returns Vault's client for a server. It repeats failed calls at once.
func client(t *testing.T, s *servertest.Server) *api.Client {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Address, cfg.MinRetryWait, cfg.MaxRetryWait = s.URL(), time.Millisecond, time.Millisecond
	c, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(token)
	t.Cleanup(cfg.HttpClient.CloseIdleConnections)
	return c
}

func open(t *testing.T, s *servertest.Server) aead.KEK {
	t.Helper()
	kek, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{Client: client(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kek.Close() })
	return kek
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, keyType := range []string{"aes256-gcm96", "chacha20-poly1305"} {
		t.Run(keyType, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			e.create("cache", "type="+keyType)
			s := servertest.New(t, e.handle, false, token)
			aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return open(t, s) })
		})
	}
}

func TestRemote(t *testing.T) {
	t.Parallel()
	aeadtest.RunRemote(t, func(t *testing.T) aeadtest.Remote {
		_, s := serve(t)
		return aeadtest.Remote{
			KEK:      open(t, s),
			Stop:     s.Stop,
			Hang:     s.Hang,
			Throttle: func() { s.Status(http.StatusTooManyRequests) },
			Deny:     func() { s.Set(token, nil) },
			Fail:     func() { s.Status(http.StatusServiceUnavailable) },
			Heal: func() {
				s.Status(0)
				s.Set(token, &servertest.Token{Paths: []string{"*"}})
				s.Restart()
			},
			Secrets: []string{token},
		}
	})
}

// Vault opens these spellings like the original, so one wrapped key would have any number of names.
func TestOtherSpellings(t *testing.T) {
	t.Parallel()
	e, s := serve(t)
	kek := open(t, s)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	rest := strings.TrimPrefix(string(sealed), "vault:v1:")
	last := len(rest) - strings.Count(rest, "=") - 1
	for _, other := range []string{
		"vault:v01:" + rest,
		"vault:v+1:" + rest,
		"vault:v0:" + rest,
		"vault:v1:" + rest[:4] + "\n" + rest[4:],
		"vault:v1:" + rest + "\r\n",
		"vault:v1:" + rest[:last] + string(nextDigit(rest[last])) + rest[last+1:],
	} {
		if other == "vault:v1:"+rest {
			t.Fatal("not another spelling")
		}
		status, _, _ := e.handle("decrypt/cache", map[string]any{"ciphertext": other})
		if status != http.StatusOK {
			t.Logf("Vault refuses %q itself", other[:12])
		}
		if _, err := kek.DecryptWithContext(t.Context(), []byte(other), nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%q: %v", other[:12], err)
		}
	}
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Error(err)
	}
}

// nextDigit returns the digit of base64 that differs in the lowest bit, which padding ignores.
func nextDigit(c byte) byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return digits[strings.IndexByte(digits, c)^1]
}

func TestTinkIntegration(t *testing.T) {
	t.Parallel()
	_, s := serve(t)
	kek := open(t, s)
	c, err := tinkvault.NewClientWithAEADOptions("hcvault://", client(t, s).Logical())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := c.GetAEAD("hcvault://vault.example/transit/keys/cache")
	if err != nil {
		t.Fatal(err)
	}
	for _, ad := range [][]byte{nil, []byte("associated data")} {
		sealed, err := theirs.Encrypt([]byte("data key"), ad)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := kek.DecryptWithContext(t.Context(), sealed, ad)
		if err != nil || string(opened) != "data key" {
			t.Errorf("theirs, %d bytes of associated data: %q, %v", len(ad), opened, err)
		}
		if sealed, err = kek.EncryptWithContext(t.Context(), []byte("data key"), ad); err != nil {
			t.Fatal(err)
		}
		if opened, err = theirs.Decrypt(sealed, ad); err != nil || string(opened) != "data key" {
			t.Errorf("ours, %d bytes of associated data: %q, %v", len(ad), opened, err)
		}
	}

	// The values of an Envelope are Tink's too.
	e, err := aead.NewEnvelope(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sealed, err := e.EncryptWithContext(t.Context(), []byte("value"), []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), theirs).Decrypt(sealed, []byte("key"))
	if err != nil || string(opened) != "value" {
		t.Errorf("Tink's envelope: %q, %v", opened, err)
	}
	t.Logf("an envelope adds %d bytes", len(sealed)-len("value"))
}

// Tink's deprecated client sends associated data as a context, which Vault ignores for keys that are not derived.
func TestTenantsStayApart(t *testing.T) {
	t.Parallel()
	e, s := serve(t)
	kek := open(t, s)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), []byte("tenant-a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kek.DecryptWithContext(t.Context(), sealed, []byte("tenant-b")); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("sealed for tenant-a, opened as tenant-b: %v", err)
	}

	// A server that ignores associated data is noticed at start.
	forgetful := servertest.New(t, func(path string, body map[string]any) (int, map[string]any, []string) {
		delete(body, "associated_data")
		return e.handle(path, body)
	}, false, token)
	_, err = aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{Client: client(t, forgetful)})
	if err == nil || !strings.Contains(err.Error(), "does not authenticate associated data") {
		t.Errorf("a server that ignores associated data: %v", err)
	}
}

func TestKeysThatDoNotServe(t *testing.T) {
	t.Parallel()
	e, s := serve(t)
	e.create("derived", "derived=true")
	e.create("convergent", "derived=true", "convergent_encryption=true")
	e.create("rsa", "type=rsa-2048")
	e.create("ed", "type=ed25519")
	for name, want := range map[string]string{
		"missing":    "the key does not exist",
		"derived":    "the key was made with derived=true (make one with derived=false)",
		"convergent": "the key was made with derived=true (make one with derived=false)",
		"rsa":        "does not authenticate",
		"ed":         "does not authenticate",
	} {
		for _, query := range []string{"", "?decrypt-only=true"} {
			_, err := aead.OpenKEK(t.Context(), "hcvault:///transit/keys/"+name+query, hcvault.Opener{Client: client(t, s)})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "transit/keys/"+name) {
				t.Errorf("%s%s: %v, want %q", name, query, err, want)
			}
		}
	}
	if status, _, _ := e.handle("encrypt/missing", map[string]any{"plaintext": "AAAA"}); status != http.StatusOK {
		t.Fatalf("Vault did not make a key: status %d", status)
	}
}

// A key that was deleted, or versions that are no longer allowed, are definite refusals.
func TestRetiredKeys(t *testing.T) {
	t.Parallel()
	e, s := serve(t)
	kek := open(t, s)
	first, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.do(logical.UpdateOperation, "keys/cache/rotate", nil)
	second, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil || !bytes.HasPrefix(second, []byte("vault:v2:")) {
		t.Fatalf("%.9s, %v", second, err)
	}
	if opened, err := kek.DecryptWithContext(t.Context(), first, nil); err != nil || string(opened) != "data key" {
		t.Errorf("after a rotation: %v", err)
	}
	check := func(what string, sealed []byte) {
		t.Helper()
		_, err := kek.DecryptWithContext(t.Context(), sealed, nil)
		if !errors.Is(err, aead.ErrUnknownKey) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: %v, want ErrUnknownKey", what, err)
		}
	}
	check("a version that does not exist", []byte("vault:v9:"+base64.StdEncoding.EncodeToString(make([]byte, 60))))
	e.do(logical.UpdateOperation, "keys/cache/config", map[string]any{"min_decryption_version": 2})
	check("below min_decryption_version", first)
	if _, err := kek.DecryptWithContext(t.Context(), second, nil); err != nil {
		t.Error(err)
	}
	e.do(logical.UpdateOperation, "keys/cache/config", map[string]any{"deletion_allowed": true})
	e.do(logical.DeleteOperation, "keys/cache", nil)
	check("deleted", second)
	if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); err != nil && !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("wrap under a deleted key: %v", err)
	}
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	e, s := serve(t)
	kek := open(t, s)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.do(logical.UpdateOperation, "keys/cache/rotate", nil)
	_, data, errs := e.handle("rewrap/cache", map[string]any{"ciphertext": string(sealed)})
	again := fmt.Sprint(data["ciphertext"])
	if !strings.HasPrefix(again, "vault:v2:") {
		t.Fatalf("%v, %v", data, errs)
	}
	if opened, err := kek.DecryptWithContext(t.Context(), []byte(again), nil); err != nil || string(opened) != "data key" {
		t.Error(err)
	}
}
