package aead_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
)

// vaultKV is a keyset in the field "keyset" of a secret of Vault's KV engine, version 2.
type vaultKV struct {
	address, token string // as VAULT_ADDR and VAULT_TOKEN
	mount, path    string // as "secret" and "shop-keys"
}

// Load implements aead.Source. An error leaves the present keyset in service.
func (s vaultKV) Load(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address+"/v1/"+s.mount+"/data/"+s.path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("vault: read the keyset: status %d", resp.StatusCode)
	}
	var secret struct {
		Data struct {
			Data struct {
				Keyset string `json:"keyset"`
			} `json:"data"`
		} `json:"data"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 2*aead.MaxKeysetBytes)).Decode(&secret)
	return []byte(secret.Data.Data.Keyset), err
}

// A keyset in Vault's KV engine. Every process reads it at an interval, and at each Reload.
func ExampleSource() {
	ctx := context.Background()
	kek := exampleKEK()
	vault := newExampleVault()
	defer vault.Close()
	manager := keyset.NewManager()
	vault.put(withNewKey(manager, kek))

	source := vaultKV{vault.URL, "hvs.token", "secret", "shop-keys"}
	keys, err := aead.OpenKeyring(ctx, source, kek) // aead.WithReload(time.Minute) reads it each minute
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	sealed, err := keys.EncryptWithContext(ctx, []byte("value"), nil)
	if err != nil {
		log.Fatal(err)
	}

	vault.put(withNewKey(manager, kek)) // sealcache keys rotate; vault kv put
	if err := keys.Reload(ctx); err != nil {
		log.Fatal(err)
	}
	opened, err := keys.DecryptWithContext(ctx, sealed, nil)
	fmt.Println(len(keys.Keys()), "keys;", string(opened), err)

	vault.put([]byte("garbage"))
	failed := keys.Reload(ctx)
	opened, err = keys.DecryptWithContext(ctx, sealed, nil)
	fmt.Println(failed != nil, len(keys.Keys()), "keys;", string(opened), err)
	// Output:
	// 2 keys; value <nil>
	// true 2 keys; value <nil>
}

// exampleVault is Vault's KV engine with one secret.
type exampleVault struct {
	*httptest.Server

	mu     sync.Mutex
	keyset []byte
}

func newExampleVault() *exampleVault {
	v := new(exampleVault)
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/secret/data/shop-keys" || r.Header.Get("X-Vault-Token") != "hvs.token" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"data": map[string]string{"keyset": string(v.keyset)}}})
	}))
	return v
}

func (v *exampleVault) put(keyset []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keyset = keyset
}

func exampleKEK() *aead.Keyring {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	kek, err := aead.NewKeyring(handle, aead.WithLogger(silent()))
	if err != nil {
		log.Fatal(err)
	}
	return kek
}

// withNewKey adds a primary key, and returns the keyset sealed under kek.
func withNewKey(m *keyset.Manager, kek *aead.Keyring) []byte {
	id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err != nil {
		log.Fatal(err)
	}
	handle, err := m.Handle()
	if err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	if err := handle.WriteWithContext(context.Background(), keyset.NewJSONWriter(&b), kek, nil); err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
}
