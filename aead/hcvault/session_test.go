package hcvault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault"
	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
)

// methodFunc is a login method.
type methodFunc func(ctx context.Context, client *api.Client) (*api.Secret, error)

func (f methodFunc) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	return f(ctx, client)
}

// everything is a token that ends after ttl, and after most at the latest.
func everything(ttl, most time.Duration) *servertest.Token {
	now := time.Now()
	return &servertest.Token{Paths: []string{"*"}, Expires: now.Add(ttl), TTL: ttl, Max: now.Add(most)}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("after two minutes, this is still not true: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestLogins(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "SECRET_ID=the-secret-id")
	s.Logins(func(path string, body map[string]any) (string, *servertest.Token) {
		switch fmt.Sprint(path, body) {
		case "auth/approle/loginmap[role_id:shop secret_id:the-secret-id]",
			"auth/team/roles/loginmap[role_id:shop secret_id:the-secret-id]",
			"auth/kubernetes/loginmap[jwt:the-jwt role:shop]",
			"auth/k8s-eu/loginmap[jwt:the-jwt role:shop]":
			return "token-of-a-login", everything(time.Hour, time.Hour)
		}
		return "", nil
	})
	jwt, id := writeFile(t, "jwt", "the-jwt"), writeFile(t, "id", "the-secret-id\n")
	for _, query := range []string{
		"auth=approle&role-id=shop&secret-id-env=SECRET_ID",
		"auth=approle&role-id=shop&secret-id-file=" + id,
		"auth=approle&role-id=shop&secret-id-file=" + id + "&auth-mount=team/roles",
		"auth=kubernetes&role=shop&jwt-file=" + jwt,
		"auth=kubernetes&role=shop&jwt-file=" + jwt + "&auth-mount=k8s-eu",
	} {
		kek, err := aead.OpenKEK(t.Context(), keyURI+"?"+query, hcvault.Opener{})
		roundTrip(t, kek, err)
	}
	kek, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{Auth: methodFunc(func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, "auth/kubernetes/login", map[string]any{"role": "shop", "jwt": "the-jwt"})
	})})
	roundTrip(t, kek, err)

	t.Setenv("SECRET_ID", "a-wrong-secret-id")
	_, err = aead.OpenKEK(t.Context(), keyURI+"?auth=approle&role-id=shop&secret-id-env=SECRET_ID", hcvault.Opener{})
	if err == nil || !strings.Contains(err.Error(), "login: Vault refuses the role or its secret") || strings.Contains(err.Error(), "secret-id") {
		t.Errorf("a wrong secret: %v", err)
	}
}

// VAULT_TOKEN may be for another Vault than the one that the KEK logs in to.
func TestLoginSendsNoToken(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "" {
			t.Errorf("%s got the token", r.URL.Path)
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer s.Close()
	setenv(t, "VAULT_ADDR="+s.URL, "VAULT_TOKEN="+token, "SECRET_ID=x")
	for _, query := range []string{"auth=approle&role-id=r&secret-id-env=SECRET_ID", "auth=kubernetes&role=r&jwt-file=" + writeFile(t, "jwt", "x")} {
		_, err := aead.OpenKEK(t.Context(), keyURI+"?"+query, hcvault.Opener{})
		if err == nil || !strings.Contains(err.Error(), "login: Vault refuses the role or its secret") {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// A token is renewed before it ends. When it reaches its maximum, the login is repeated. Kubernetes replaces the service
// account's token in between.
func TestRenewal(t *testing.T) {
	for ttl := 2 * time.Second; ; ttl *= 2 { // a busy machine may renew a short token too late
		err := renewal(t, ttl)
		if err == nil {
			return
		}
		if ttl > 30*time.Second {
			t.Fatal(err)
		}
	}
}

// renewal returns the error of the first call that fails before a renewal and two logins.
func renewal(t *testing.T, ttl time.Duration) (failed error) {
	t.Helper()
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL())
	jwt := writeFile(t, "jwt", "jwt-0")
	var logins atomic.Int64
	s.Logins(func(_ string, body map[string]any) (string, *servertest.Token) {
		n := logins.Load()
		if body["jwt"] != fmt.Sprint("jwt-", n) {
			return "", nil
		}
		logins.Add(1)
		if err := os.WriteFile(jwt, fmt.Append(nil, "jwt-", n+1), 0o600); err != nil {
			t.Error(err)
		}
		return fmt.Sprint("token-", n), everything(ttl, ttl*3/2)
	})
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?auth=kubernetes&role=shop&jwt-file="+jwt, hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	eventually(t, "a renewal and two logins, without a failed call", func() bool {
		_, failed = kek.EncryptWithContext(t.Context(), []byte("x"), nil)
		_, renewals, _ := s.Counts()
		return failed != nil || renewals > 0 && logins.Load() >= 2
	})
	return failed
}

// A token that Vault revoked is replaced by one login, and no call fails.
func TestRevokedToken(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "SECRET_ID=x")
	var logins atomic.Int64
	s.Logins(func(string, map[string]any) (string, *servertest.Token) {
		return fmt.Sprint("token-", logins.Add(1)), everything(time.Hour, time.Hour)
	})
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?auth=approle&role-id=r&secret-id-env=SECRET_ID", hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	s.Set("token-1", nil)
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := logins.Load(); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
	// A missing permission looks the same, and must not cause a login per call.
	s.Set("token-2", &servertest.Token{})
	for range 5 {
		if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); err == nil || !strings.Contains(err.Error(), `grant "update" on the path "transit/encrypt/cache"`) {
			t.Errorf("without permission: %v", err)
		}
	}
	if n := logins.Load(); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

// A caller that does not wait for the login does not keep the others from it.
func TestLoginThatItsCallerEnds(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "SECRET_ID=x")
	var logins atomic.Int64
	slow := make(chan struct{})
	s.Logins(func(string, map[string]any) (string, *servertest.Token) {
		n := logins.Add(1)
		if n == 2 {
			<-slow
		}
		return fmt.Sprint("token-", n), everything(time.Hour, time.Hour)
	})
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?auth=approle&role-id=r&secret-id-env=SECRET_ID", hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	s.Set("token-1", nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for logins.Load() < 2 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err = kek.EncryptWithContext(ctx, []byte("x"), nil)
	close(slow)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A token that a renewal leaves no time does not cause a storm of logins.
func TestRenewalThatEndsTheToken(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "SECRET_ID=x")
	var logins atomic.Int64
	s.Logins(func(string, map[string]any) (string, *servertest.Token) {
		return fmt.Sprint("token-", logins.Add(1)), &servertest.Token{Paths: []string{"*"}, Expires: time.Now().Add(time.Hour), TTL: time.Second}
	})
	begin := time.Now()
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?auth=approle&role-id=r&secret-id-env=SECRET_ID", hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "three logins", func() bool { return logins.Load() >= 3 })
	if err := kek.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d < 2*time.Second {
		t.Errorf("three logins in %v, want a second between two", d)
	}
}

// A new token whose lifetime cannot be asked for is found when the old one ends.
func TestTokenFileInAnOutage(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	var failing atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() && strings.HasSuffix(r.URL.Path, "/lookup-self") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", s.Addr() }}).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	setenv(t, "VAULT_ADDR="+proxy.URL)
	s.Set("first", &servertest.Token{Paths: []string{"*"}, Expires: time.Now().Add(5 * time.Second)})
	path := writeFile(t, "token", "first")
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?token-file="+path, hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	failing.Store(true)
	s.Set("first", nil)
	s.Set("second", everything(time.Hour, time.Hour))
	if err := os.WriteFile(path, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("in the outage: %v", err)
	}
	failing.Store(false)
	eventually(t, "a renewal of the second token", func() bool {
		_, renewals, _ := s.Counts()
		return renewals > 0
	})
}

// A Vault agent writes a new token into its sink.
func TestTokenFileChanges(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL())
	s.Set("first", everything(time.Hour, time.Hour))
	path := writeFile(t, "token", "first")
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?token-file="+path, hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	s.Set("first", nil)
	s.Set("second", everything(time.Hour, time.Hour))
	if err := os.WriteFile(path, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); err != nil {
		t.Error(err)
	}
}

// An operator learns that a token from the environment ends.
func TestTokenThatEnds(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN=short-lived-token")
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := time.Second; ; d *= 2 { // it may end before a busy machine uses it
		s.Set("short-lived-token", &servertest.Token{Paths: []string{"*"}, Expires: time.Now().Add(d)})
		kek, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{Logger: slog.New(slog.NewTextHandler(f, nil))})
		if err == nil {
			defer kek.Close()
			break
		}
		if d > time.Minute {
			t.Fatal(err)
		}
	}
	eventually(t, "a log line", func() bool {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "short-lived-token") {
			t.Fatalf("the log shows the token: %s", b)
		}
		return strings.Contains(string(b), "level=ERROR") && strings.Contains(string(b), "the Vault token expires")
	})
}
