package aead

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead/internal/cleartext"
)

// KEKOpener opens the key-encryption keys of one key service. Each key-service module exports one.
type KEKOpener interface {
	// Schemes returns the URI schemes that it opens, in lower case and without colon, such as "hcvault".
	Schemes() []string
	// OpenKEK is called by the function OpenKEK for a URI of one of the schemes. The AEAD must be safe for concurrent
	// use, pass its context to the service, and mark a definite refusal of a ciphertext as ErrUnauthentic or
	// ErrUnknownKey, and nothing else. If it is an io.Closer, the application closes it. Errors must not quote the URI,
	// which may hold a secret.
	OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error)
}

// fileKEKReload is how often the keyset of a file:// KEK is read again by default.
const fileKEKReload = time.Minute

// OpenKEK opens the key-encryption key that a URI names. Two kinds need no opener:
//
//	file:///run/secrets/kek.json      a Tink keyset in clear, JSON or binary, that the platform mounts as a secret
//	passphrase:env:NAME               a passphrase in an environment variable
//	passphrase:file:/run/secrets/kek  a passphrase in a file
//
// The file is watched, and read again each minute, so that a new version of the secret takes effect without restart;
// "?reload=10s" sets another interval and "?reload=off" none. It is a *Keyring. The file holds the key that protects
// all others: mount it from the platform's secret store, readable by this process alone.
//
// From a passphrase of at least 12 bytes, a key is derived by argon2id with 64 MiB, three passes and four lanes (the
// second recommendation of RFC 9106), which takes a third of a second for each process that wrote data keys. It is for
// few processes; a generated passphrase of 128 bits and more is advised.
//
// The schemes of key services (hcvault, aws-kms, gcp-kms) are opened by the openers of their modules. A scheme that two
// openers claim is an error. No error quotes the URI, except that one about a file which cannot be read names its path.
//
// A file's reloads, and their failures, are logged to slog.Default() as it is when OpenKEK is called. For another logger,
// open the file with insecurecleartextkeyset.OpenKeyring, aead.WithReload and aead.WithKeyringLogger.
//
// If the result is an io.Closer, close it when it is no longer used; a *Keyring is.
func OpenKEK(ctx context.Context, uri string, openers ...KEKOpener) (tink.AEADWithContext, error) {
	known := map[string]func(context.Context, string) (tink.AEADWithContext, error){
		"file":       openFileKEK,
		"passphrase": openPassphraseKEK,
	}
	for _, o := range openers {
		if o == nil {
			return nil, errors.New("aead: OpenKEK was given a nil opener")
		}
		for _, scheme := range o.Schemes() {
			if !validScheme(scheme) {
				return nil, fmt.Errorf("aead: %T claims %q, which is not a URI scheme in lower case", o, scheme)
			}
			if _, taken := known[scheme]; taken {
				return nil, fmt.Errorf("aead: two openers claim the KEK scheme %q", scheme)
			}
			known[scheme] = o.OpenKEK
		}
	}
	scheme, _, ok := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	if !ok || !validScheme(scheme) {
		return nil, fmt.Errorf("aead: the KEK URI has no scheme (known are %s)", listSchemes(known))
	}
	open, ok := known[scheme]
	if !ok {
		return nil, fmt.Errorf("aead: unknown KEK scheme %q (known are %s)%s", scheme, listSchemes(known), moduleOf(scheme))
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open KEK: %w", ended(ctx))
	}
	kek, err := open(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("aead: open KEK (%s): %w", scheme, err)
	}
	if isNilKEK(kek) {
		return nil, fmt.Errorf("aead: open KEK (%s): the opener returned no key", scheme)
	}
	return kek, nil
}

func validScheme(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == ""
}

func listSchemes[T any](known map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

func moduleOf(scheme string) string {
	switch scheme {
	case "hcvault":
		return "; the module github.com/sealcache/sealcache/aead/hcvault brings it"
	case "aws-kms":
		return "; the module github.com/sealcache/sealcache/aead/awskms brings it"
	case "gcp-kms":
		return "; the module github.com/sealcache/sealcache/aead/gcpkms brings it"
	}
	return ""
}

// openFileKEK opens file:///path?reload=... Errors of url.Parse quote the URI and are not passed on.
func openFileKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
		return nil, errors.New("want file:///absolute/path")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query of the URI is not well formed")
	}
	every := fileKEKReload
	for name, values := range query {
		if name != "reload" || len(values) != 1 {
			return nil, errors.New("the URI has an unknown or repeated parameter (known is reload)")
		}
		if values[0] == "off" {
			every = 0
		} else if every, err = time.ParseDuration(values[0]); err != nil || every <= 0 {
			return nil, errors.New("reload is neither off nor a positive duration such as 30s")
		}
	}
	var opts []KeyringOption
	if every > 0 {
		opts = append(opts, WithReload(every))
	}
	k, err := OpenKeyring(ctx, FileSource(u.Path), cleartext.KEK{}, opts...)
	if err != nil {
		return nil, err
	}
	return k, nil
}
