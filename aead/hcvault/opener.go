package hcvault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

// Opener opens keys of the transit engine. It implements aead.KEKOpener. The zero value takes everything from the URI and
// from the environment.
type Opener struct {
	// Client makes the calls instead of a client from the environment. The application logs it in and renews its token. The
	// KEK does not close it. A host in the URI must be the client's.
	Client *api.Client
	// Auth logs in, instead of the auth parameter of the URI. It cannot be set together with Client. It must be safe to be
	// called again: the login is repeated when its token ends.
	Auth api.AuthMethod
	// Logger gets failed renewals and logins. Nil is slog.Default().
	Logger *slog.Logger
}

var _ aead.KEKOpener = Opener{}

// Schemes returns "hcvault".
func (Opener) Schemes() []string { return []string{"hcvault"} }

// OpenKEK logs in, proves that the key wraps and unwraps, and returns it. The result is an aead.KEK; close it. The context
// bounds the login and the proof. The URI has one of these forms:
//
//	hcvault://HOST[:PORT]/MOUNT/keys/NAME[?PARAMETER=VALUE&...]
//	hcvault:///MOUNT/keys/NAME
//
// If the URI has a host, the Opener uses https. It uses http only if VAULT_ADDR has the same host and the scheme http.
// Without a host, it uses VAULT_ADDR. The mount path may have several parts. The parameters are:
//
//	namespace=team-a           the Vault namespace; the default is VAULT_NAMESPACE
//	auth=token                 the default: the token in VAULT_TOKEN, or in the file token-file=/path (a Vault agent can write it)
//	auth=approle               with role-id=..., and secret-id-file=/path or secret-id-env=NAME
//	auth=kubernetes            with role=..., and jwt-file=/path if the token is not where Kubernetes puts it
//	auth-mount=approle         where the login method is mounted; the default is the name of the method
//	decrypt-only=true          the KEK decrypts and never encrypts: set it on the old key when you move to a new key
//
// Unknown parameters are errors. White space around the content of a file is ignored, and an empty file is an error. For a
// role with bind_secret_id=false, write any text into the file: Vault ignores it.
//
// # Environment
//
// VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY,
// VAULT_TLS_SERVER_NAME, VAULT_SKIP_VERIFY, VAULT_CLIENT_TIMEOUT, VAULT_MAX_RETRIES, VAULT_PROXY_ADDR and VAULT_AGENT_ADDR
// work as Vault documents them. The package does not read the file that "vault login" writes.
//
// # Errors of the KEK
//
// A failed decryption returns one of these errors:
//
//   - aead.ErrUnauthentic: the ciphertext or the associated data was altered, or another key of Vault encrypted the
//     ciphertext. Associated data is not encrypted, but a ciphertext decrypts only with the same associated data.
//   - aead.ErrUnknownKey: the key or its version was deleted, or Vault no longer allows the version
//     (min_decryption_version).
//   - aead.ErrKeyServiceUnavailable: any other failure, such as no connection, a sealed Vault or a missing capability.
//
// For bytes that Vault never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always returns
// aead.ErrKeyServiceUnavailable. To find Vault's own error, use errors.As with an *api.ResponseError.
func (o Opener) OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	target, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	client, err := o.client(target)
	if err != nil {
		return nil, err
	}
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	key := keyservice.Key{
		Module: "hcvault", Name: target.mount + "/keys/" + target.key, Place: target.place(client, o.Client == nil), DecryptOnly: target.decryptOnly,
	}
	t := &transit{client: client, mount: target.mount, key: target.key, opening: true}
	if o.Client == nil {
		login, err := o.login(target, client)
		if err != nil {
			return nil, err
		}
		if t.session, err = startSession(ctx, client, login, log.With("kek", key.Name+key.Place)); err != nil {
			return nil, keyservice.OpenError(key, err)
		}
	}
	kek, err := keyservice.Open(ctx, key, t)
	t.opening = false
	return kek, err
}

// client returns the client of the application, or one from the environment.
func (o Opener) client(t target) (*api.Client, error) {
	if client := o.Client; client != nil {
		if o.Auth != nil {
			return nil, errors.New("the Opener has both a Client and an Auth (set only one)")
		}
		if t.auth.given || t.namespace != "" {
			return nil, errors.New("the URI must not set a login or a namespace, because the Opener has a Client")
		}
		if u, err := url.Parse(client.Address()); t.host != "" && (err != nil || u.Host != t.host) {
			return nil, errors.New("the URI and the Opener's Client have different hosts (remove the host from the URI)")
		}
		return client, nil
	}
	client, err := t.newClient()
	if err != nil {
		return nil, err
	}
	if t.namespace != "" {
		client.SetNamespace(t.namespace)
	}
	return client, nil
}

// newClient returns a client from the environment. Errors of the client may quote variables, so only known ones are shown.
func (t target) newClient() (*api.Client, error) {
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		return nil, errors.New("an environment variable VAULT_... is invalid, or its file is unreadable (check all of them)")
	}
	env, err := url.Parse(cfg.Address)
	if err != nil || env.User != nil {
		return nil, errors.New("VAULT_ADDR must be a URL such as https://vault.example:8200, without user and password")
	}
	if t.host != "" && t.host != env.Host {
		cfg.Address = "https://" + t.host
	}
	client, err := api.NewClient(cfg)
	if err != nil {
		return nil, errors.New("an environment variable is invalid: VAULT_ADDR, VAULT_AGENT_ADDR or VAULT_HEADERS")
	}
	if t.auth.roleID+t.auth.role != "" {
		client.ClearToken() // VAULT_TOKEN may be for another Vault
	}
	cfg.HttpClient.Transport = keyservice.Limit(cfg.HttpClient.Transport)
	return client, nil
}

// String shows no credential.
func (o Opener) String() string { return "hcvault.Opener" }

// GoString returns String.
func (o Opener) GoString() string { return o.String() }

// LogValue returns String.
func (o Opener) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Format writes String, for every verb, because the client holds a token.
func (o Opener) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, o.String()) } // fmt.State reports no errors
