// Package keyservice has the code that awskms, gcpkms, gocloud and hcvault have in common. Each of these packages opens keys
// of one key service, such as a cloud KMS. Only the authors of these packages need keyservice. Applications call
// aead.OpenKEK.
//
// Write a [Client], which calls the service to encrypt and to decrypt. Then call [Open] with the Client. Open makes a
// key-encryption key (KEK), tests the KEK and returns it. The errors of a KEK name the key, and can name a missing
// permission. They never contain a credential.
package keyservice

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/sealcache/sealcache/aead"
)

// Client makes the calls of one key of a service. Its methods are safe for concurrent use. An error that is not a *Failure
// counts as an outage.
type Client interface {
	// Wrap has the service encrypt.
	Wrap(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	// Unwrap has the service decrypt.
	Unwrap(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
	// Probe asks the service to decrypt bytes that it never encrypted, and returns nil if it refused only because of them. It
	// tells a key that is missing from one that exists.
	Probe(ctx context.Context) error
	// Close ends goroutines and connections that the client started.
	Close() error
}

// Key describes a key to operators.
type Key struct {
	// Module is the package that opens it, such as hcvault.
	Module string
	// Name is the key, without credentials.
	Name string
	// Place follows the name if the name alone is ambiguous, such as " at vault.example:8200".
	Place string
	// DecryptOnly reports whether the key must not be asked to wrap.
	DecryptOnly bool
}

// KEK is a key of a service as an aead.KEK.
type KEK struct {
	key    Key
	client Client
	done   context.Context
	cancel context.CancelCauseFunc
	close  func() error
	start  []byte // how ciphertexts of this key begin; empty if it was opened for decryption only
}

// startSize is how many bytes ciphertexts of one service have in common: "vau" of Vault, a version of the format at others.
const startSize = 3

var _ aead.KEK = (*KEK)(nil)

// Open returns the KEK of a client that has proved itself. It closes the client if the proof fails.
func Open(ctx context.Context, key Key, client Client) (aead.KEK, error) {
	k := &KEK{key: key, client: client}
	k.done, k.cancel = context.WithCancelCause(context.Background())
	k.close = sync.OnceValue(func() error {
		k.cancel(aead.ErrClosed)
		return client.Close()
	})
	if err := k.prove(ctx); err != nil {
		_ = k.Close() // the first error is the one to tell
		return nil, err
	}
	return k, nil
}

// errDecryptOnly is the answer to a caller that wraps under a key that was opened for decryption.
var errDecryptOnly = errors.New("the key cannot encrypt, because its URI has \"decrypt-only=true\"")

// EncryptWithContext implements tink.AEADWithContext. A failure is aead.ErrKeyServiceUnavailable.
func (k *KEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if k.key.DecryptOnly {
		return nil, k.failed("wrap", &Failure{Reason: errDecryptOnly.Error(), Cause: errDecryptOnly})
	}
	ctx, stop, err := k.during(ctx, "wrap")
	if err != nil {
		return nil, err
	}
	defer stop()
	out, err := k.client.Wrap(ctx, plaintext, associatedData)
	switch {
	case err != nil:
		return nil, k.ended(ctx, "wrap", withoutRefusal(err))
	case len(out) == 0:
		return nil, k.failed("wrap", &Failure{Reason: "the answer of the key service contains no ciphertext"})
	}
	return out, nil
}

// DecryptWithContext implements tink.AEADWithContext. A definite refusal is aead.ErrUnauthentic or aead.ErrUnknownKey, any
// other failure aead.ErrKeyServiceUnavailable. Services give one answer for altered bytes and for those of another kind of
// key. The latter are aead.ErrUnknownKey: they begin otherwise than what this key wraps.
func (k *KEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	ctx, stop, err := k.during(ctx, "unwrap")
	if err != nil {
		return nil, err
	}
	defer stop()
	out, err := k.client.Unwrap(ctx, ciphertext, associatedData)
	var f *Failure
	if errors.As(err, &f) && errors.Is(f.Refusal, aead.ErrUnauthentic) && !bytes.HasPrefix(ciphertext, k.start) {
		err = Refuse(aead.ErrUnknownKey, "the ciphertext has another format than this key writes, so another key wrote it", f.Cause)
	}
	if err != nil {
		return nil, k.ended(ctx, "unwrap", err)
	}
	if out == nil {
		out = []byte{}
	}
	return out, nil
}

// during returns a context that also ends with Close.
func (k *KEK) during(ctx context.Context, action string) (context.Context, func(), error) {
	if ctx.Err() != nil {
		return nil, nil, k.failed(action, &Failure{Reason: ctx.Err().Error(), Cause: cause(ctx)})
	}
	if k.done.Err() != nil {
		return nil, nil, k.failed(action, &Failure{Reason: "the key is closed and cannot be used", Cause: aead.ErrClosed})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(k.done, func() { cancel(aead.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}, nil
}

// ended returns the error of a call. After a context has ended, some clients report only a closed connection.
func (k *KEK) ended(ctx context.Context, action string, err error) error {
	if ctx.Err() != nil {
		return k.failed(action, &Failure{Reason: ctx.Err().Error(), Cause: errors.Join(cause(ctx), err)})
	}
	return k.failed(action, err)
}

// cause returns why a context has ended: its error, and its cause if that says more.
func cause(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return errors.Join(err, cause)
}

// Close ends calls that are under way and closes the client.
func (k *KEK) Close() error { return k.close() }

// prove wraps and unwraps a probe. So a wrong name, a missing permission and a server that ignores associated data are
// found at start, and not with the first value. It unwraps first: some services create a missing key when they are asked to
// encrypt.
func (k *KEK) prove(ctx context.Context) error {
	probe, ad := make([]byte, 32), []byte("sealcache: prove the key-encryption key")
	rand.Read(probe)
	if err := k.client.Probe(ctx); err != nil {
		return k.ended(ctx, "", err)
	}
	if k.key.DecryptOnly {
		return nil
	}
	sealed, err := k.client.Wrap(ctx, probe, ad)
	if err != nil {
		return k.ended(ctx, "", err)
	}
	k.start = bytes.Clone(sealed[:min(len(sealed), startSize)])
	opened, err := k.client.Unwrap(ctx, sealed, ad)
	if err != nil {
		return k.ended(ctx, "", err)
	}
	if !bytes.Equal(opened, probe) {
		return k.failed("", &Failure{Reason: "decryption by the key service did not return the bytes that were encrypted (do not use this service)"})
	}
	_, err = k.client.Unwrap(ctx, sealed, append([]byte("not "), ad...))
	var f *Failure
	switch {
	case err == nil:
		return k.failed("", &Failure{Reason: "the key service does not authenticate associated data (use another key or service)"})
	case !errors.As(err, &f) || f.Refusal == nil:
		return k.ended(ctx, "", err)
	}
	return nil
}

// String names the module and the key.
func (k *KEK) String() string { return k.key.Module + ": KEK " + k.key.Name + k.key.Place }

// GoString returns String.
func (k *KEK) GoString() string { return k.String() }

// LogValue returns String.
func (k *KEK) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format writes String, for every verb, because a client holds credentials.
func (k *KEK) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) } // fmt.State reports no errors

// ParseURI reads scheme://NAME[?decrypt-only=true], and returns the match of the name with form. want describes this form to
// users. The errors do not quote the URI, in which a user may have put a secret.
func ParseURI(uri string, form *regexp.Regexp, want string) (name []string, decryptOnly bool, err error) {
	_, rest, _ := strings.Cut(uri, "://")
	path, query, _ := strings.Cut(rest, "?")
	if name = form.FindStringSubmatch(path); name == nil {
		return nil, false, errors.New("the URI must be " + want)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, false, errors.New("the parameters after '?' in the URI are malformed")
	}
	for parameter, v := range values {
		if parameter != "decrypt-only" || len(v) != 1 || v[0] != "true" && v[0] != "false" {
			return nil, false, errors.New("the URI has an unknown or repeated parameter (allowed: \"decrypt-only=true\", \"decrypt-only=false\")")
		}
		decryptOnly = v[0] == "true"
	}
	return name, decryptOnly, nil
}

// ProbeUnwrap implements Client.Probe for a service that authenticates ciphertexts: it asks to decrypt random bytes.
func ProbeUnwrap(ctx context.Context, c Client) error {
	garbage := make([]byte, 100)
	rand.Read(garbage)
	_, err := c.Unwrap(ctx, garbage, nil)
	var f *Failure
	switch {
	case err == nil:
		return &Failure{Reason: "the key service decrypts random bytes that it never encrypted (use another key or service)"}
	case errors.As(err, &f) && errors.Is(f.Refusal, aead.ErrUnauthentic):
		return nil
	}
	return err
}
