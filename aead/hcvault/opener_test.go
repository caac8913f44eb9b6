package hcvault_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault"
	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
)

const (
	token  = "hvs.CAESIJ-the-token-of-the-tests"
	keyURI = "hcvault:///transit/keys/cache"
)

// setenv sets the variables of Vault's client, and no others.
func setenv(t *testing.T, variables ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "VAULT_") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name) // t.Setenv restores it
		}
	}
	t.Setenv("VAULT_MAX_RETRIES", "0")
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// roundTrip checks that a KEK works, and closes it.
func roundTrip(t *testing.T, kek aead.KEK, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kek.Close(); err != nil {
			t.Error(err)
		}
		if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrClosed) {
			t.Errorf("used after Close: %v", err)
		}
	}()
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := kek.DecryptWithContext(t.Context(), sealed, []byte("ad"))
	if err != nil || string(opened) != "data key" {
		t.Errorf("%q, %v", opened, err)
	}
}

func TestEnvironment(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)
	for _, uri := range []string{
		keyURI,
		"hcvault://" + s.Addr() + "/transit/keys/cache", // http, because VAULT_ADDR says so
		"HCVAULT:///transit/keys/cache",
		keyURI + "?token-file=" + writeFile(t, "token", token+"\n"),
	} {
		kek, err := aead.OpenKEK(t.Context(), uri, hcvault.Opener{})
		roundTrip(t, kek, err)
	}
	s.RequireNamespace("team/a")
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?namespace=team/a", hcvault.Opener{})
	roundTrip(t, kek, err)
	t.Setenv("VAULT_NAMESPACE", "team/a")
	kek, err = aead.OpenKEK(t.Context(), keyURI, &hcvault.Opener{})
	roundTrip(t, kek, err)
}

func TestTLS(t *testing.T) {
	s := servertest.New(t, newEngine(t), true, token)
	uri := "hcvault://" + s.Addr() + "/transit/keys/cache"
	setenv(t, "VAULT_TOKEN="+token, "VAULT_CACERT="+writeFile(t, "ca.pem", string(s.CA)))
	kek, err := aead.OpenKEK(t.Context(), uri, hcvault.Opener{})
	roundTrip(t, kek, err)

	setenv(t, "VAULT_TOKEN="+token)
	_, err = aead.OpenKEK(t.Context(), uri, hcvault.Opener{})
	if err == nil || !strings.Contains(err.Error(), "certificate is not trusted") || !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("a certificate of an unknown authority: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	const secret = "hunter2-secret"
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)
	s.Set("weak", &servertest.Token{Paths: []string{"transit/encrypt/cache"}})
	s.Set("decryptonly", &servertest.Token{Paths: []string{"transit/decrypt/cache"}})
	form, parameter := "the URI must be hcvault://host/mount/keys/name", "an unknown, empty, repeated or invalid parameter"
	for uri, want := range map[string]string{
		"hcvault:transit/keys/cache":                          form,
		"hcvault://host":                                      form,
		"hcvault:///keys/cache":                               form,
		"hcvault:///transit/key/cache":                        form,
		"hcvault:///transit/keys/" + secret + "/":             form,
		"hcvault:///transit/keys/%2e%2e":                      form,
		"hcvault:///tr..ansit/../keys/x":                      form,
		"hcvault:///transit/keys/a b":                         form,
		"hcvault:///transit/keys/a%zz" + secret:               form,
		"hcvault://x:" + secret + "@h/t/keys/k":               form,
		keyURI + "#" + secret:                                 form,
		keyURI + "?token=" + secret:                           parameter,
		keyURI + "?secret-id=" + secret:                       parameter,
		keyURI + "?namespace=":                                parameter,
		keyURI + "?namespace=a&namespace=b":                   parameter,
		keyURI + "?auth=ldap":                                 parameter,
		keyURI + "?token-file=relative":                       parameter,
		keyURI + "?decrypt-only=yes":                          parameter,
		keyURI + "?%zz" + secret:                              "after '?'",
		keyURI + "?role=x":                                    "the login parameters of the URI need \"auth=approle\" or",
		keyURI + "?auth=token&role=x":                         "the login parameters of the URI need \"auth=approle\" or",
		keyURI + "?auth=approle&role-id=x":                    "either \"secret-id-file\" or \"secret-id-env\"",
		keyURI + "?auth=kubernetes":                           "\"auth=kubernetes\" needs the parameter \"role\"",
		keyURI + "?token-file=/does/not/exist":                "/does/not/exist",
		keyURI + "?token-file=" + writeFile(t, "empty", "\n"): "empty",
		keyURI + "?auth=approle&role-id=r&secret-id-file=" + writeFile(t, "no-id", ""):      "login: the file with the credential is empty",
		keyURI + "?auth=kubernetes&role=r&jwt-file=" + writeFile(t, "no-jwt", " \n"):        "login: the file with the credential is empty",
		"hcvault:///transit/keys/" + secret[:7]:                                             `key "transit/keys/hunter2" at ` + s.Addr() + ": the key does not exist",
		"hcvault:///elsewhere/keys/cache":                                                   "no transit engine is mounted at this path",
		keyURI + "?token-file=" + writeFile(t, "weak", "weak"):                              `(grant "update" on the path "transit/decrypt/cache")`,
		keyURI + "?token-file=" + writeFile(t, "decryptonly", "decryptonly"):                `(grant "update" on the path "transit/encrypt/cache")`,
		keyURI + "?token-file=" + writeFile(t, "bad", secret):                               `(grant "update" on the path "transit/decrypt/cache")`,
		keyURI + "?auth=approle&role-id=r&secret-id-env=VAULT_NOT":                          "login: the environment variable VAULT_NOT is not set",
		keyURI + "?auth=approle&role-id=r&secret-id-file=/does/not/exist":                   "/does/not/exist",
		keyURI + "?auth=kubernetes&role=r&jwt-file=/does/not/exist":                         "/does/not/exist",
		keyURI + "?auth=kubernetes&role=r&jwt-file=" + writeFile(t, "jwt", secret):          "login: Vault has no login method at the path",
		"hcvault://127.0.0.1:1/transit/keys/cache?token-file=" + writeFile(t, "t", secret):  "connection refused",
		"hcvault://host.invalid/transit/keys/cache?token-file=" + writeFile(t, "t", secret): "host not found",
		"hcvault://" + s.Addr() + "/transit/keys/cache?namespace=%00&token-file=/" + secret: parameter,
	} {
		_, err := aead.OpenKEK(t.Context(), uri, hcvault.Opener{})
		switch {
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", uri, err, want)
		case strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), token):
			t.Errorf("the error shows a secret: %v", err)
		}
	}

	for variable, value := range map[string]string{
		"VAULT_SKIP_VERIFY":    secret,
		"VAULT_CLIENT_TIMEOUT": secret,
		"VAULT_ADDR":           "http://user:" + secret + "@127.0.0.1:1",
		"VAULT_HEADERS":        secret,
		"VAULT_CACERT":         "/does/not/exist",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			_, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{})
			if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "VAULT_") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpenerConflicts(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)
	client, err := api.NewClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	auth := methodFunc(nil)
	for name, c := range map[string]struct {
		opener hcvault.Opener
		uri    string
		want   string
	}{
		"client and auth":         {hcvault.Opener{Client: client, Auth: auth}, keyURI, "both a Client and an Auth"},
		"nil auth":                {hcvault.Opener{Auth: auth}, keyURI, "the Auth of the Opener is a nil pointer"},
		"client and login":        {hcvault.Opener{Client: client}, keyURI + "?auth=token", "because the Opener has a Client"},
		"client and namespace":    {hcvault.Opener{Client: client}, keyURI + "?namespace=a", "because the Opener has a Client"},
		"client of another host":  {hcvault.Opener{Client: client}, "hcvault://other/transit/keys/cache", "different hosts"},
		"auth and login":          {hcvault.Opener{Auth: auth}, keyURI + "?auth=approle&role-id=a&secret-id-env=B", "the Opener has an Auth, and the URI also sets a login"},
		"auth and login by token": {hcvault.Opener{Auth: auth}, keyURI + "?token-file=/x", "the Opener has an Auth, and the URI also sets a login"},
	} {
		if _, err := aead.OpenKEK(t.Context(), c.uri, c.opener); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	kek, err := aead.OpenKEK(t.Context(), "hcvault://"+s.Addr()+"/transit/keys/cache", hcvault.Opener{Client: client})
	roundTrip(t, kek, err)
}

// An old key keeps only its permission to decrypt.
func TestDecryptOnly(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	s.Set("decryptonly", &servertest.Token{Paths: []string{"transit/decrypt/cache"}})
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)
	kek, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_TOKEN", "decryptonly")
	old, err := aead.OpenKEK(t.Context(), keyURI+"?decrypt-only=true", hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if opened, err := old.DecryptWithContext(t.Context(), sealed, nil); err != nil || string(opened) != "data key" {
		t.Errorf("%q, %v", opened, err)
	}
	if _, err := old.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("wrap: %v", err)
	}
	if _, err := aead.OpenKEK(t.Context(), "hcvault:///transit/keys/missing?decrypt-only=true", hcvault.Opener{}); err == nil {
		t.Error("a missing key was opened")
	}
}

// An internal error of Vault does not show whether the key exists.
func TestDecryptOnlyNeedsAnAnswer(t *testing.T) {
	engine := newEngine(t)
	s := servertest.New(t, func(path string, body map[string]any) (int, map[string]any, []string) {
		if strings.HasPrefix(path, "decrypt/") {
			return http.StatusInternalServerError, nil, []string{"1 error occurred:\n\t* internal error\n\n"}
		}
		return engine(path, body)
	}, false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token, "VAULT_MAX_RETRIES=0")
	for _, query := range []string{"", "?decrypt-only=true"} {
		_, err := aead.OpenKEK(t.Context(), keyURI+query, hcvault.Opener{})
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "HTTP status 500") {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// An endless answer does not fill the memory.
func TestAnswerWithoutEnd(t *testing.T) {
	engine := newEngine(t)
	long := ""
	s := servertest.New(t, func(path string, body map[string]any) (int, map[string]any, []string) {
		if long != "" {
			return http.StatusBadRequest, nil, []string{long}
		}
		return engine(path, body)
	}, false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)
	kek, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	long = strings.Repeat("encryption key not found", 1<<20)
	_, err = kek.EncryptWithContext(t.Context(), []byte("x"), nil)
	var tooLong *http.MaxBytesError
	if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.As(err, &tooLong) {
		t.Errorf("%.200v", err)
	}
}

// A start that fails says which of the usual mistakes it is. They get the same few answers of Vault.
func TestMistakesAtStart(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	tls := servertest.New(t, newEngine(t), true, token)
	s.Set("weak", &servertest.Token{Paths: []string{"transit/encrypt/cache"}})
	at := `hcvault: key "transit/keys/cache" at ` + s.Addr() + ": "
	for name, c := range map[string]struct {
		uri       string
		variables []string
		want      string
	}{
		"no token":         {keyURI, []string{"VAULT_ADDR=" + s.URL()}, at + "no Vault token (set VAULT_TOKEN, or add a login to the URI)"},
		"no permission":    {keyURI, []string{"VAULT_ADDR=" + s.URL(), "VAULT_TOKEN=weak"}, at + `permission denied (grant "update" on the path "transit/decrypt/cache")`},
		"an ended token":   {keyURI, []string{"VAULT_ADDR=" + s.URL(), "VAULT_TOKEN=ended"}, at + "permission denied, or the token is wrong or has expired"},
		"https for http":   {keyURI, []string{"VAULT_ADDR=https://" + s.Addr(), "VAULT_TOKEN=" + token}, "the server does not speak TLS"},
		"host without URL": {"hcvault://" + s.Addr() + "/transit/keys/cache", []string{"VAULT_TOKEN=" + token}, "the server does not speak TLS"},
		"http for https":   {keyURI, []string{"VAULT_ADDR=http://" + tls.Addr(), "VAULT_TOKEN=" + token}, "token: the server speaks TLS (use https)"},
		"not a Vault":      {keyURI, []string{"VAULT_ADDR=" + s.URL() + "/ui", "VAULT_TOKEN=" + token}, "token: no Vault answers at this address"},
		"no scheme":        {keyURI, []string{"VAULT_ADDR=" + s.Addr(), "VAULT_TOKEN=" + token}, "VAULT_ADDR must be a URL"},
		"no address":       {keyURI, []string{"VAULT_TOKEN=" + token, "VAULT_PROXY_ADDR=http://127.0.0.1:1"}, "at 127.0.0.1:8200 (VAULT_ADDR is not set): "},
		"one slash":        {"hcvault:/transit/keys/cache", []string{"VAULT_ADDR=" + s.URL(), "VAULT_TOKEN=" + token}, "the URI must be hcvault://host"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, c.variables...)
			_, err := aead.OpenKEK(t.Context(), c.uri, hcvault.Opener{})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// Errors find Vault's own, and no formatted opener shows a token.
func TestErrorOfVault(t *testing.T) {
	s := servertest.New(t, newEngine(t), false, token)
	setenv(t, "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)
	kek, err := aead.OpenKEK(t.Context(), keyURI, hcvault.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	s.Status(http.StatusTooManyRequests)
	_, err = kek.EncryptWithContext(t.Context(), []byte("x"), nil)
	var answer *api.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%v", err)
	}
	if want := `hcvault: wrap: key "transit/keys/cache" at ` + s.Addr() + ": the key service throttled the call"; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	client, err := api.NewClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(verb, hcvault.Opener{Client: client}); text != "hcvault.Opener" {
			t.Errorf("%s: %s", verb, text)
		}
	}
}
