// Package insecurecleartextkeyset reads and writes keysets IN PLAINTEXT. A keyset is a set of Tink keys in a file. An
// attacker who reads this file can open everything that the keys sealed.
//
// Use this package in development and in tests. In production, use it only if another mechanism protects the file, such as
// the secret store of a platform. Otherwise, use [aead.CreateKeyset] and [aead.OpenKeyring], with a key-encryption key
// (KEK) that encrypts the file. The file of a file:// KEK is itself a plaintext keyset: see [aead.OpenKEK].
//
// Write a keyset with [CreateKeyset], and open the keyset with [OpenKeyring]:
//
//	err := insecurecleartextkeyset.CreateKeyset(w, tinkaead.AES256GCMKeyTemplate()) // w: an io.Writer; tinkaead: Tink's aead
//	...
//	keyring, err := insecurecleartextkeyset.OpenKeyring(ctx, aead.FileSource("keyset.json"))
//
// No other package of this module writes a plaintext keyset. So a reviewer can search for imports of this package, and a
// linter can forbid them. Tink has a package of the same name for the same reason.
package insecurecleartextkeyset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	tinkcleartext "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/cleartext"
	"github.com/sealcache/sealcache/internal/abandon"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// OpenKeyring is aead.OpenKeyring for a keyset in plaintext, as JSON or binary. A file that other users can read or
// change is opened with a warning. WithAssociatedData, WithKeysetName and WithKEKCheck do not apply.
func OpenKeyring(ctx context.Context, src aead.Source, opts ...aead.KeyringOption) (*aead.Keyring, error) {
	return aead.OpenKeyring(ctx, src, cleartext.KEK{}, opts...)
}

// OpenPRF is aead.OpenPRF for a keyset in plaintext.
func OpenPRF(ctx context.Context, src aead.Source) (*prf.Set, error) {
	return aead.OpenPRF(ctx, src, cleartext.KEK{})
}

// CreateKeyset makes a keyset of one new key from the template t, and writes it to w as Tink's JSON, IN PLAINTEXT. Give
// its file the mode 0600. The template is one for an AEAD or a PRF.
func CreateKeyset(w io.Writer, t *tinkpb.KeyTemplate) error {
	if t == nil {
		return errors.New("insecurecleartextkeyset: create keyset: the key template is nil")
	}
	handle, err := keyset.NewHandle(t)
	if err != nil {
		return fmt.Errorf("insecurecleartextkeyset: create keyset: Tink makes no key from the template (use another): %w", err)
	}
	if err := usable(handle); err != nil {
		return err
	}
	return Write(w, handle)
}

// usable returns an error if the key is for neither a Keyring nor OpenPRF.
func usable(handle *keyset.Handle) error {
	k, err := aead.NewKeyring(handle)
	if err == nil {
		return k.Close()
	}
	if _, prfErr := prf.NewPRFSet(handle); prfErr == nil {
		return nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // the caller does not know the id of the key
	}
	return fmt.Errorf("insecurecleartextkeyset: the template makes neither supported AEAD keys nor PRF keys: %w", err)
}

// loadTimeout bounds the reading of a source.
const loadTimeout = 10 * time.Second

// load reads a source and waits no longer than ctx and loadTimeout allow. A source that ignores its context is abandoned.
func load(ctx context.Context, src aead.Source) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	a, ok := abandon.Call(ctx, "insecurecleartextkeyset: read keyset: the source", func() {}, func(late []byte) { clear(late) }, func() ([]byte, error) {
		return src.Load(ctx)
	})
	if !ok {
		return nil, fmt.Errorf("insecurecleartextkeyset: read keyset: the source did not answer: %w", errtext.Guard(context.Cause(ctx)))
	}
	return a.Out, a.Err
}

// Handle reads a keyset in plaintext, as JSON or binary, to be changed with Tink's keyset.Manager. A source that ignores ctx is
// abandoned when ctx ends, or after 10 seconds.
func Handle(ctx context.Context, src aead.Source) (*keyset.Handle, error) {
	if nilcheck.IsNil(src) {
		return nil, errors.New("insecurecleartextkeyset: read keyset: the source is nil")
	}
	data, err := load(ctx, src)
	if err != nil && strings.HasPrefix(err.Error(), "aead: ") {
		return nil, err
	}
	if err != nil {
		return nil, errtext.From("insecurecleartextkeyset: read keyset", err)
	}
	if len(data) > aead.MaxKeysetBytes {
		return nil, fmt.Errorf("insecurecleartextkeyset: read keyset: the keyset has more than %d bytes", aead.MaxKeysetBytes)
	}
	handle, err := cleartext.Read(data)
	if err != nil {
		return nil, fmt.Errorf("insecurecleartextkeyset: read keyset: %w", err)
	}
	return handle, nil
}

// Write writes a keyset to w as Tink's JSON, IN PLAINTEXT, in one call.
func Write(w io.Writer, handle *keyset.Handle) error {
	if nilcheck.IsNil(w) {
		return errors.New("insecurecleartextkeyset: write keyset: the writer is nil")
	}
	var buf bytes.Buffer
	if err := tinkcleartext.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return fmt.Errorf("insecurecleartextkeyset: write keyset: Tink refused the *keyset.Handle (is it nil?): %w", err)
	}
	defer clear(buf.Bytes())
	n, err := w.Write(buf.Bytes())
	if err == nil && n < buf.Len() {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("insecurecleartextkeyset: write keyset: the writer failed: %w", errtext.Guard(err))
	}
	return nil
}
