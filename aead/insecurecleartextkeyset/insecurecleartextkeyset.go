// Package insecurecleartextkeyset reads and writes keysets IN CLEAR.
//
// Whoever reads such a keyset can open everything that was ever sealed under it. It is for development and tests, and
// for reading a keyset that some other mechanism has already protected. It is the only package of this module that
// writes a keyset in clear, and a package of its own so that its use can be searched for, reviewed and forbidden by a
// linter, as Tink does with its package of the same name.
//
// In production, seal the keyset under a key-encryption key: aead.CreateKeyset and aead.OpenKeyring.
package insecurecleartextkeyset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	tinkcleartext "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/cleartext"
)

// OpenKeyring is aead.OpenKeyring for a keyset in clear, as JSON or binary. WithAssociatedData does not apply.
func OpenKeyring(ctx context.Context, src aead.Source, opts ...aead.KeyringOption) (*aead.Keyring, error) {
	return aead.OpenKeyring(ctx, src, cleartext.KEK{}, opts...)
}

// OpenPRF is aead.OpenPRF for a keyset in clear.
func OpenPRF(ctx context.Context, src aead.Source) (*prf.Set, error) {
	return aead.OpenPRF(ctx, src, cleartext.KEK{})
}

// CreateKeyset makes a keyset of one new key after the template t, and writes it to w as Tink's JSON, IN CLEAR. Give
// the file to nobody else: 0600.
func CreateKeyset(w io.Writer, t *tinkpb.KeyTemplate) error {
	if t == nil {
		return errors.New("insecurecleartextkeyset: a keyset needs a key template")
	}
	handle, err := keyset.NewHandle(t)
	if err != nil {
		return fmt.Errorf("insecurecleartextkeyset: new key: %w", err)
	}
	if _, err := tinkaead.New(handle); err != nil {
		if _, err := prf.NewPRFSet(handle); err != nil {
			return errors.New("insecurecleartextkeyset: the key template is for neither an AEAD nor a PRF")
		}
	}
	return Write(w, handle)
}

// Handle reads a keyset in clear, as JSON or binary, to be changed with Tink's keyset.Manager.
func Handle(ctx context.Context, src aead.Source) (*keyset.Handle, error) {
	if src == nil {
		return nil, errors.New("insecurecleartextkeyset: a keyset needs a source")
	}
	data, err := src.Load(ctx)
	if err != nil {
		return nil, err
	}
	if len(data) > aead.MaxKeysetBytes {
		return nil, fmt.Errorf("insecurecleartextkeyset: the keyset has more than %d bytes", aead.MaxKeysetBytes)
	}
	var reader keyset.Reader = keyset.NewBinaryReader(bytes.NewReader(data))
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		reader = keyset.NewJSONReader(bytes.NewReader(trimmed))
	}
	handle, err := tinkcleartext.Read(reader)
	if err != nil {
		// The parser's text is not passed on: it quotes its input.
		return nil, errors.New("insecurecleartextkeyset: not a Tink keyset in clear")
	}
	return handle, nil
}

// Write writes a keyset to w as Tink's JSON, IN CLEAR, in one call.
func Write(w io.Writer, handle *keyset.Handle) error {
	var buf bytes.Buffer
	if err := tinkcleartext.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return fmt.Errorf("insecurecleartextkeyset: write: %w", err)
	}
	defer clear(buf.Bytes())
	n, err := w.Write(buf.Bytes())
	if err == nil && n < buf.Len() {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("insecurecleartextkeyset: write: %w", err)
	}
	return nil
}
