package gocloud_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/gocloud"
)

func open(t *testing.T, v *vault) aead.KEK {
	t.Helper()
	kek, err := aead.OpenKEK(t.Context(), keyURI, v.opener(bearer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kek.Close() })
	return kek
}

func TestConformance(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return open(t, v) })
}

func TestRemote(t *testing.T) {
	t.Parallel()
	aeadtest.RunRemote(t, func(t *testing.T) aeadtest.Remote {
		v := newVault(t)
		answer := func(status int) func() { return func() { v.set(func() { v.status = status }) } }
		return aeadtest.Remote{
			KEK:      open(t, v),
			Stop:     v.stop,
			Hang:     func() { v.set(func() { v.gone = make(chan struct{}) }) },
			Throttle: answer(http.StatusTooManyRequests),
			Deny:     func() { v.set(func() { v.denied = map[string]bool{"encrypt": true, "decrypt": true} }) },
			Fail:     answer(http.StatusInternalServerError),
			Heal: func() {
				v.stop()
				v.set(func() { v.status, v.denied = 0, nil })
				v.start()
			},
			Secrets: []string{bearer},
		}
	})
}

// RSA keys of 2048 bits encrypt 190 bytes, and a keyset has more.
func TestKeysetsOfManyKeys(t *testing.T) {
	t.Parallel()
	kek := open(t, newVault(t))
	var buf bytes.Buffer
	if err := aead.CreateKeyset(t.Context(), &buf, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	ring, err := aead.OpenKeyring(t.Context(), aead.BytesSource(buf.Bytes()), kek)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Close(); err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("keyset"), 1000)
	sealed, err := kek.EncryptWithContext(t.Context(), long, []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := kek.DecryptWithContext(t.Context(), sealed, []byte("ad")); err != nil || !bytes.Equal(opened, long) {
		t.Errorf("%d bytes, %v", len(opened), err)
	}
}

// A key that is disabled or missing is a definite refusal.
func TestKeyStates(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	kek := open(t, v)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	v.set(func() { v.disabled = true })
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnknownKey) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("disabled: %v", err)
	}
	if _, err := aead.OpenKEK(t.Context(), keyURI, v.opener(bearer)); err == nil || !strings.Contains(err.Error(), "the key is disabled") {
		t.Errorf("open: %v", err)
	}
	v.set(func() { v.disabled = false })
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Error(err)
	}
}

// Only an answer of Azure is a refusal. An answer of a proxy says nothing about a ciphertext, nor about the key.
func TestProxyAnswersInThePlaceOfAzure(t *testing.T) {
	t.Parallel()
	const html, form = "text/html", "application/json"
	v := newVault(t)
	kek := open(t, v)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status      int
		ctype, body string
	}{
		{http.StatusBadRequest, html, "<html><title>400 Request Header Or Cookie Too Large</title></html>"},
		{http.StatusBadRequest, form, `{"error":{"code":"invalid_request","message":"x"}}`},
		{http.StatusNotFound, html, "<html><title>404 Not Found</title></html>"},
		{http.StatusNotFound, form, `{"error":{"code":"NotFound","message":"no route"}}`},
		{http.StatusForbidden, html, `<html>"KeyDisabled"</html>`},
		{http.StatusInternalServerError, html, "<html></html>"},
		{http.StatusOK, html, "<html>please log in</html>"},
		{http.StatusOK, form, ""},
		{http.StatusOK, form, "{}"},
		{http.StatusOK, form, "null"},
		{http.StatusOK, form, `{"kid":"x","value":""}`},
		{http.StatusOK, form, `{"kid":"x","value":"aGVsbG8"}`},
	} {
		v.set(func() {
			v.proxy = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.ctype)
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body)) // the client has gone
			}
		})
		_, err := kek.DecryptWithContext(t.Context(), sealed, nil)
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey) {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
		for _, uri := range []string{keyURI, keyURI + "?decrypt-only=true"} {
			if kek, err := aead.OpenKEK(t.Context(), uri, v.opener(bearer)); err == nil {
				t.Errorf("%d %s: opened %s", c.status, c.body, kek)
			}
		}
	}
	v.set(func() { v.proxy = nil })
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Error(err)
	}
}

// A key that decrypts only is opened only if the vault answers about it.
func TestDecryptOnlyNeedsAnAnswer(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?decrypt-only=true", v.opener(bearer))
	if err != nil {
		t.Fatal(err)
	}
	if err := kek.Close(); err != nil {
		t.Error(err)
	}
	if _, err := aead.OpenKEK(t.Context(), keyURI+"1?decrypt-only=true", v.opener(bearer)); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a missing key: %v", err)
	}
	v.set(func() { v.addr = "127.0.0.1:1" }) // nothing listens on it
	if kek, err := aead.OpenKEK(t.Context(), keyURI+"?decrypt-only=true", v.opener(bearer)); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("no connection: %v, %v", kek, err)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	v := newVault(t)
	form, parameter := "the URI must be azurekeyvault://", "unknown, repeated or invalid parameter"
	for _, c := range []struct{ uri, token, denied, want string }{
		{uri: "azurekeyvault:x" + secret, want: form},
		{uri: "azurekeyvault://" + secret, want: form},
		{uri: "azurekeyvault://shop.vault.azure.net/keys/cache", want: form}, // no version
		{uri: "azurekeyvault://evil.example/keys/cache/1", want: form},
		{uri: "azurekeyvault://x:" + secret + "@shop.vault.azure.net/keys/cache/1", want: "a user"},
		{uri: keyURI + "?algorithm=RSA1_5", want: parameter},
		{uri: keyURI + "?secret=" + secret, want: parameter},
		{uri: keyURI + "?%zz" + secret, want: "after '?' in the URI"},
		{uri: keyURI + "1", want: "shop.vault.azure.net" + keyID + `1": the key does not exist`},
		{uri: keyURI, denied: "decrypt", want: keyID + `": permission denied (grant the key permission "decrypt")`},
		{uri: keyURI, denied: "encrypt", want: keyID + `": permission denied (grant the key permission "encrypt")`},
		{uri: keyURI, token: secret, want: keyID + `": `},
	} {
		v.set(func() { v.denied = map[string]bool{c.denied: true} })
		if c.token == "" {
			c.token = bearer
		}
		_, err := aead.OpenKEK(t.Context(), c.uri, v.opener(c.token))
		switch {
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.uri, err, c.want)
		case strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), bearer):
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	v.set(func() { v.denied = map[string]bool{"encrypt": true} })
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?decrypt-only=true", v.opener(bearer))
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if text := fmt.Sprintf(verb, v.opener(bearer)); text != "gocloud.Opener" {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

func TestOtherKeepers(t *testing.T) {
	t.Parallel()
	k := localsecrets.NewKeeper([32]byte{1})
	defer k.Close()
	kek, err := gocloud.NewKEK(t.Context(), k, "local")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), []byte("tenant-a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kek.DecryptWithContext(t.Context(), sealed, []byte("tenant-b")); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("sealed for tenant-a, opened as tenant-b: %v", err)
	}
	if err := kek.Close(); err != nil {
		t.Error(err)
	}
	opener := gocloud.Opener{Keepers: map[string]secrets.KeeperURLOpener{"base64key": &localsecrets.URLOpener{}}}
	again, err := aead.OpenKEK(t.Context(), (&url.URL{Scheme: "base64key", Host: "smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="}).String(), opener)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []func() (aead.KEK, error){
		func() (aead.KEK, error) { return gocloud.NewKEK(t.Context(), nil, "x") },
		func() (aead.KEK, error) { return gocloud.NewKEK(t.Context(), k, "") },
	} {
		if kek, err := bad(); err == nil || kek != nil {
			t.Error("accepted")
		}
	}
	for _, none := range []secrets.KeeperURLOpener{nil, (*localsecrets.URLOpener)(nil)} {
		opener := gocloud.Opener{Keepers: map[string]secrets.KeeperURLOpener{"base64key": none}}
		if _, err := opener.OpenKEK(t.Context(), "base64key://x"); err == nil || err.Error() != `the opener for "base64key" in Opener.Keepers is nil` {
			t.Errorf("%T: %v", none, err)
		}
	}
}
