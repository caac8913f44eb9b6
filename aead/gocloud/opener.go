package gocloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/azurekeyvault"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// Opener opens keys of Azure Key Vault, and those of other Keepers. It implements aead.KEKOpener. The zero value takes
// credentials from the environment.
type Opener struct {
	// AzureClient makes the client of a vault. Nil is azurekeyvault.DefaultClientMaker, without redirects.
	AzureClient azurekeyvault.ClientMakerT
	// Keepers opens further schemes with openers of Go Cloud's drivers. Their URIs are passed on as they are.
	Keepers map[string]secrets.KeeperURLOpener
}

var _ aead.KEKOpener = Opener{}

// Schemes returns "azurekeyvault" and the schemes of Keepers.
func (o Opener) Schemes() []string {
	return append([]string{azurekeyvault.Scheme}, slices.Sorted(maps.Keys(o.Keepers))...)
}

// OpenKEK proves that the key wraps and unwraps, and returns it. The result is an aead.KEK; close it. The context bounds the
// proof. The URI of an Azure key has this form:
//
//	azurekeyvault://VAULT.vault.azure.net/keys/NAME/VERSION[?algorithm=RSA-OAEP-256][&decrypt-only=true]
//
// The URI must contain the version of the key, because Azure decrypts only with the version of the URI. When you replace a
// version, open both versions, and combine them with aead.NewKEKSet. Open the old version with decrypt-only=true, so that
// it never encrypts.
//
// The algorithm is RSA-OAEP-256 (the default) or RSA-OAEP. The other algorithms of Azure do not detect altered ciphertexts.
//
// # Errors of the KEK
//
// A failed decryption returns one of these errors:
//
//   - aead.ErrUnauthentic: the ciphertext or the associated data was altered, or another key encrypted the ciphertext.
//   - aead.ErrUnknownKey: the key is disabled or does not exist.
//   - aead.ErrKeyServiceUnavailable: any other failure.
//
// For bytes that the service never encrypted, the error is ErrUnauthentic or ErrUnknownKey. If the service decrypts bytes that
// this package did not encrypt, the error is aead.ErrKeyServiceUnavailable. A failed encryption always
// returns aead.ErrKeyServiceUnavailable. Some Keepers, such as localsecrets, return no error code for an altered
// ciphertext. With them, the error is aead.ErrKeyServiceUnavailable.
//
// # Associated data
//
// Associated data is not encrypted, but a ciphertext decrypts only with the same associated data. A Keeper takes no
// associated data, so the package encrypts a hash of it together with the plaintext. An RSA key encrypts only short
// plaintexts. So for more than 96 bytes, such as a keyset, the package encrypts with a new AES-256 key, and the Keeper
// encrypts that key.
func (o Opener) OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Fragment != "" {
		return nil, errors.New("the URI is malformed, or has a user or a #fragment (neither is allowed)")
	}
	key := keyservice.Key{Module: "gocloud", Name: u.Host + u.Path}
	var k *secrets.Keeper
	other, ok := o.Keepers[u.Scheme]
	if ok {
		if nilcheck.IsNil(other) {
			return nil, fmt.Errorf("the opener for %q in Opener.Keepers is nil", u.Scheme)
		}
		if k, err = other.OpenKeeperURL(ctx, u); err != nil {
			return nil, &keyservice.Failure{Reason: "the opener in Opener.Keepers failed", Remedy: "check the URI and the settings of that opener", Cause: err}
		}
	} else if k, err = o.openAzure(u, &key); err != nil {
		return nil, err
	}
	return keyservice.Open(ctx, key, &keeper{keeper: k, azure: !ok, close: k.Close})
}

// openAzure returns the Keeper of azurekeyvault://host/keys/name/version. The error does not quote the URI, in which a user may
// have put a secret.
func (o Opener) openAzure(u *url.URL, key *keyservice.Key) (*secrets.Keeper, error) {
	path := regexp.MustCompile(`^/keys/[A-Za-z0-9-]+/[A-Za-z0-9]+$`)
	if !strings.Contains(u.Host, ".vault.") || !path.MatchString(u.Path) {
		return nil, errors.New("the URI must be azurekeyvault://VAULT.vault.azure.net/keys/NAME/VERSION")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters after '?' in the URI are malformed")
	}
	var opts azurekeyvault.KeeperOptions
	for name, v := range query {
		switch {
		case len(v) == 1 && name == "decrypt-only" && (v[0] == "true" || v[0] == "false"):
			key.DecryptOnly = v[0] == "true"
		case len(v) == 1 && name == "algorithm" && slices.Contains(authenticated(), azkeys.EncryptionAlgorithm(v[0])):
			opts.Algorithm = azkeys.EncryptionAlgorithm(v[0])
		default:
			return nil, errors.New("unknown, repeated or invalid parameter (allowed: \"algorithm=RSA-OAEP-256\", \"decrypt-only=true\")")
		}
	}
	maker := o.AzureClient
	if maker == nil {
		maker = azureClient
	}
	k, err := azurekeyvault.OpenKeeper(maker, "https://"+u.Host+u.Path, &opts)
	if err != nil {
		return nil, keyservice.OpenError(*key, &keyservice.Failure{Reason: "no Azure credentials (set AZURE_CLIENT_ID, use a managed identity or run \"az login\")", Cause: err})
	}
	return k, nil
}

// azureHTTP is the HTTP client of all vaults. It pings, as the client of azcore does, so that it finds dead connections.
var azureHTTP = keyservice.HTTPClient(&http.Transport{ //nolint:gochecknoglobals // shares connections
	Proxy:               http.ProxyFromEnvironment,
	ForceAttemptHTTP2:   true,
	MaxIdleConnsPerHost: 10,
	IdleConnTimeout:     90 * time.Second,
	TLSHandshakeTimeout: 10 * time.Second,
	HTTP2:               &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
})

// azureClient is azurekeyvault.DefaultClientMaker with azureHTTP.
func azureClient(uri string) (*azkeys.Client, error) {
	c, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	return azkeys.NewClient(uri, c, &azkeys.ClientOptions{ClientOptions: policy.ClientOptions{Transport: azureHTTP}})
}

// authenticated are the algorithms that detect an altered ciphertext. RSA1_5 and AES-CBC do not.
func authenticated() []azkeys.EncryptionAlgorithm {
	return []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP256, azkeys.EncryptionAlgorithmRSAOAEP}
}

// NewKEK returns the KEK of a Keeper that the application has opened, after a proof that it wraps and unwraps. name is for
// errors and logs, and must not be a secret. The KEK does not close the Keeper.
func NewKEK(ctx context.Context, k *secrets.Keeper, name string) (aead.KEK, error) {
	if k == nil || name == "" {
		return nil, errors.New("gocloud: NewKEK: the Keeper is nil, or the name is empty")
	}
	kek, err := keyservice.Open(ctx, keyservice.Key{Module: "gocloud", Name: name}, &keeper{keeper: k, close: func() error { return nil }})
	if err != nil {
		return nil, fmt.Errorf("gocloud: NewKEK: %w", err)
	}
	return kek, nil
}

// String shows no credential.
func (o Opener) String() string { return "gocloud.Opener" }

// GoString returns String.
func (o Opener) GoString() string { return o.String() }

// LogValue returns String.
func (o Opener) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Format writes String, for every verb, because the openers hold credentials.
func (o Opener) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, o.String()) } // fmt.State reports no errors
