package gocloud_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/sealcache/sealcache/aead/gocloud"
)

const (
	bearer = "eyJ0.the-access-token-of-the-tests"
	keyURI = "azurekeyvault://shop.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef"
	keyID  = "/keys/cache/0123456789abcdef0123456789abcdef"
)

// vault is an Azure Key Vault with one RSA key and the calls encrypt and decrypt, over HTTPS. It checks tokens, permissions, the
// state of the key and lengths as Azure does.
type vault struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	server   *httptest.Server
	key      *rsa.PrivateKey
	token    string
	denied   map[string]bool // by operation
	disabled bool
	status   int
	proxy    http.HandlerFunc // answers in the place of the vault
	gone     chan struct{}
}

var sharedKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newVault(t *testing.T) *vault {
	t.Helper()
	key, err := sharedKey()
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{t: t, addr: "127.0.0.1:0", key: key, token: bearer, denied: map[string]bool{}}
	v.start()
	t.Cleanup(v.stop)
	return v
}

func (v *vault) start() {
	l, err := net.Listen("tcp", v.addr)
	if err != nil {
		v.t.Errorf("listen: %v", err)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.addr = l.Addr().String()
	v.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: v}}
	v.server.StartTLS()
}

func (v *vault) stop() {
	v.mu.Lock()
	if v.gone != nil {
		close(v.gone)
		v.gone = nil
	}
	server := v.server
	v.server = nil
	v.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

func (v *vault) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// credential is an access token.
type credential string

func (c credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// opener returns an opener whose client reaches the fake under the name of the vault, and repeats failed calls at once.
func (v *vault) opener(token string) gocloud.Opener {
	return gocloud.Opener{AzureClient: func(uri string) (*azkeys.Client, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		config := v.server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.ServerName = "example.com"
		transport := &http.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", v.addr)
			},
		}
		v.t.Cleanup(transport.CloseIdleConnections)
		return azkeys.NewClient(uri, credential(token), &azkeys.ClientOptions{ClientOptions: policy.ClientOptions{
			Transport: &http.Client{Transport: transport},
			Retry:     policy.RetryOptions{MaxRetries: 1, RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond},
		}})
	}}
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	gone, status, proxy := v.gone, v.status, v.proxy
	v.mu.Unlock()
	if proxy != nil {
		proxy(w, r)
		return
	}
	if gone != nil {
		select {
		case <-gone:
		case <-r.Context().Done():
			return
		}
	}
	fail := func(status int, code, message, inner string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		body := map[string]any{"code": code, "message": message}
		if inner != "" {
			body["innererror"] = map[string]any{"code": inner}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"error": body}) // the client has gone
	}
	id, operation, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/decrypt")
	operation = "decrypt" + operation
	if strings.HasSuffix(id, "/encrypt") {
		id, operation = strings.TrimSuffix(id, "/encrypt"), "encrypt"
	}
	var in struct {
		Alg   string `json:"alg"`
		Value string `json:"value"`
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case status != 0: // a proxy may reflect the request
		fail(status, "Reflected", fmt.Sprint(r.Header), "")
		return
	case r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/11112222-3333-4444-5555-666677778888", resource="https://vault.azure.net"`)
		fail(http.StatusUnauthorized, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.", "")
		return
	case r.Header.Get("Authorization") != "Bearer "+v.token:
		fail(http.StatusUnauthorized, "Unauthorized", "AKV10032: Invalid issuer.", "")
		return
	case v.denied[operation]:
		fail(http.StatusForbidden, "Forbidden", "Caller is not authorized to perform action on resource.", "ForbiddenByRbac")
		return
	case "/"+id != keyID:
		fail(http.StatusNotFound, "KeyNotFound", "A key with (name/id) was not found in this key vault.", "")
		return
	case v.disabled:
		fail(http.StatusForbidden, "Forbidden", "Operation "+operation+" is not allowed on a disabled key.", "KeyDisabled")
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Alg != "RSA-OAEP-256" {
		fail(http.StatusBadRequest, "BadParameter", "Property alg is not valid", "")
		return
	}
	value, err := base64.RawURLEncoding.DecodeString(in.Value)
	var out []byte
	if err == nil {
		if operation == "encrypt" {
			out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.key.PublicKey, value, nil)
		} else {
			out, err = rsa.DecryptOAEP(sha256.New(), rand.Reader, v.key, value, nil)
		}
	}
	if err != nil {
		fail(http.StatusBadRequest, "BadParameter", "The parameter is incorrect.", "")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"kid": "https://shop.vault.azure.net" + keyID, "value": base64.RawURLEncoding.EncodeToString(out)})
}
