package aead

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead/internal/cleartext"
	"github.com/sealcache/sealcache/internal/abandon"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// KEK is a key-encryption key that OpenKEK opened. Close ends its goroutines and connections. An Envelope or Keyring does
// not close its KEK; the caller of OpenKEK does, after them.
type KEK interface {
	tink.AEADWithContext
	io.Closer
}

// KEKOpener opens the key-encryption keys of one key service. Each key-service module exports one.
type KEKOpener interface {
	// Schemes returns the URI schemes that it opens, in lower case and without colon, such as "hcvault".
	Schemes() []string
	// OpenKEK is called by the function OpenKEK for a URI of one of the schemes. The AEAD must be safe for concurrent
	// use and pass its context to the service. It must mark a definite refusal of a ciphertext, and nothing else, as
	// ErrUnauthentic or ErrUnknownKey. ErrUnknownKey means another key, or a form that the service does not write.
	// ErrUnauthentic means that no other key opens the ciphertext either. If it is an io.Closer, closing the KEK
	// closes it. Errors must not quote the URI, which may hold a secret. A call that has not returned when ctx ends is
	// abandoned, and its KEK is closed. At most 4 calls for one URI run at a time, those that were abandoned included.
	// So OpenKEK must not pass the same URI to the function OpenKEK: four such calls would wait for each other.
	OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error)
}

// openedKEK is the KEK of an opener that has nothing to close.
type openedKEK struct {
	described // the type of the opener's KEK
	tink.AEADWithContext
}

func (openedKEK) Close() error { return nil }

// onReload forwards to a KEK that embeds a *Keyring.
func (k openedKEK) onReload(f func()) (cancel func()) {
	if r, ok := k.AEADWithContext.(reloading); ok {
		return r.onReload(f)
	}
	return func() {}
}

// fileReload is the default interval at which the keyset of a FileSource or a file:// KEK is read again.
const fileReload = time.Minute

// OpenKEK opens the key-encryption key that a URI names. Two kinds need no opener:
//
//	file:///run/secrets/kek.json      a Tink keyset in plaintext, JSON or binary, that the platform mounts as a secret
//	passphrase:env:NAME               a passphrase in an environment variable
//	passphrase:file:/run/secrets/kek  a passphrase in a file
//
// The file is watched, and read again each minute, so a new version of the secret takes effect without a restart.
// "?reload=10s" sets another interval and "?reload=off" none. A path that is not that of a regular file, such as a named pipe,
// is read once, unless "?reload=10s" is given. The KEK is then a *Keyring. The file holds the key that protects all others:
// mount it from the platform's secret store, readable by this process alone. A file that other users can read or change is
// opened with a warning.
//
// A passphrase KEK is for development, and for a service without a key service or secret mount. The key is derived once,
// when it is opened, by argon2id with 64 MiB, three passes and four lanes (RFC 9106, section 4, second recommendation).
// The derivation takes a third of a second. Processes that share data need the same passphrase and the same salt.
// "?salt=" and 32 hex digits set the salt; without it a constant is used, and a warning is logged. A passphrase has 12
// to 4096 bytes; use a generated one of 128 bits or more. One line end after it is removed.
//
// The openers of the modules aead/awskms, aead/gcpkms, aead/gocloud and aead/hcvault open the schemes of key services. If two openers claim one scheme, OpenKEK returns an
// error. Errors do not quote the URI. They name the file or variable that cannot be read.
//
// Warnings, reloads of a file and their failures are logged to slog.Default(). OpenKEKWithLogger takes another logger.
//
// The caller closes the KEK, after the Envelopes and Keyrings that use it.
func OpenKEK(ctx context.Context, uri string, openers ...KEKOpener) (KEK, error) {
	return OpenKEKWithLogger(ctx, uri, slog.Default(), openers...)
}

// OpenKEKWithLogger is OpenKEK with a logger, which must not be nil. Openers have their own loggers.
func OpenKEKWithLogger(ctx context.Context, uri string, log *slog.Logger, openers ...KEKOpener) (KEK, error) {
	if log == nil {
		return nil, errors.New("aead: open KEK: the logger is nil")
	}
	known := map[string]func(context.Context, string) (KEK, error){
		"file":       func(ctx context.Context, uri string) (KEK, error) { return openFileKEK(ctx, uri, log) },
		"passphrase": func(ctx context.Context, uri string) (KEK, error) { return openPassphraseKEK(ctx, uri, log) },
	}
	for _, o := range openers {
		if nilcheck.IsNil(o) {
			return nil, errors.New("aead: open KEK: an opener that the caller gave is nil")
		}
		for _, scheme := range o.Schemes() {
			if !validScheme(scheme) {
				return nil, fmt.Errorf("aead: open KEK: the method Schemes of %T returns %q (want URI schemes such as gcp-kms)", o, scheme)
			}
			if _, taken := known[scheme]; taken {
				return nil, fmt.Errorf("aead: open KEK: two openers have the URI scheme %q (give only one)", scheme)
			}
			known[scheme] = opened(o)
		}
	}
	if uri == "" {
		return nil, errors.New("aead: open KEK: the URI of the KEK is empty (if an environment variable holds it, set that variable)")
	}
	scheme, _, ok := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	if !ok || !validScheme(scheme) {
		return nil, fmt.Errorf("aead: open KEK: the URI must begin with a scheme, for example file:///path (allowed schemes: %s)", listSchemes(known))
	}
	open, ok := known[scheme]
	if !ok {
		return nil, fmt.Errorf("aead: open KEK: unknown URI scheme %q (%sallowed schemes: %s)", scheme, moduleOf(scheme), listSchemes(known))
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open KEK: %w", ended(ctx))
	}
	kek, err := open(ctx, uri)
	if err != nil {
		return nil, within("open KEK: "+scheme, err)
	}
	return kek, nil
}

// opened adapts an opener, and refuses a KEK that is nil.
func opened(o KEKOpener) func(context.Context, string) (KEK, error) {
	return func(ctx context.Context, uri string) (KEK, error) {
		kek, err := openAbandonably(ctx, o, uri)
		if err != nil {
			return nil, err
		}
		if nilcheck.IsNil(kek) {
			return nil, errors.New("the KEKOpener returned neither a key nor an error")
		}
		if k, ok := kek.(KEK); ok {
			return k, nil
		}
		return openedKEK{described(fmt.Sprintf("aead: KEK (%T)", kek)), kek}, nil
	}
}

// openerCalls bounds the calls of openers, and those for one URI. An opener may ignore its context, or read a file that hangs. If
// an opener abandons such a reading itself, it must bound these readings, as FileSource does.
var openerCalls = namedSlots{each: sourceParallel, all: make(chan struct{}, 4096)} //nolint:gochecknoglobals // see fileReads

// openAbandonably calls an opener, and does not wait for it much longer than ctx lasts: it may read a file on a mount that hangs.
// A KEK that comes later is closed.
func openAbandonably(ctx context.Context, o KEKOpener, uri string) (tink.AEADWithContext, error) {
	release, err := openerCalls.take(ctx, uri)
	if err != nil {
		return nil, err
	}
	closeLate := func(kek tink.AEADWithContext) {
		if c, ok := kek.(io.Closer); ok && !nilcheck.IsNil(c) {
			_ = closeKEK(ctx, c) // no caller is left
		}
	}
	a, ok := abandon.Call(ctx, "aead: the code of the KEKOpener", release, closeLate, func() (tink.AEADWithContext, error) {
		return o.OpenKEK(ctx, uri)
	})
	if !ok {
		return nil, fmt.Errorf("the KEKOpener did not answer in time: %w", ended(ctx))
	}
	return a.Out, a.Err
}

func validScheme(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == ""
}

// moduleOf names the module of this project whose opener opens a scheme.
func moduleOf(scheme string) string {
	module, ok := map[string]string{
		"hcvault": "hcvault",
		"aws-kms": "awskms",
		"gcp-kms": "gcpkms",

		"azurekeyvault": "gocloud",
	}[scheme]
	if !ok {
		return ""
	}
	return "give OpenKEK the Opener of aead/" + module + "; "
}

func listSchemes[T any](known map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

// openFileKEK opens file:///path?reload=... Errors of url.Parse quote the URI and are not passed on.
func openFileKEK(ctx context.Context, uri string, log *slog.Logger) (KEK, error) {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
		return nil, errors.New("the URI must be file:///absolute/path")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters after '?' in the URI are malformed")
	}
	opts := []KeyringOption{WithLogger(log)}
	for name, values := range query {
		if name != "reload" || len(values) != 1 {
			return nil, errors.New("the URI has an unknown or repeated parameter (allowed: only \"reload\", for example \"reload=30s\")")
		}
		if values[0] == "off" {
			opts = append(opts, WithoutReload())
			continue
		}
		every, err := time.ParseDuration(values[0])
		if err != nil || every <= 0 {
			return nil, errors.New("the URI parameter \"reload\" must be \"off\" or a positive duration such as \"30s\"")
		}
		opts = append(opts, WithReload(every))
	}
	k, err := OpenKeyring(ctx, FileSource(u.Path), cleartext.KEK{}, opts...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (check the path; if there is no key yet, run \"sealcache kek create\")", err)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}
