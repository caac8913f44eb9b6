// Package cleartext reads keysets in plaintext, for package aead. A keyset is a set of Tink keys. Applications cannot import
// this package: they use package aead/insecurecleartextkeyset, whose name states the danger.
//
// To open a plaintext keyset, first pass a cleartext.[KEK] to aead.OpenKeyring, in the place of a key-encryption key. It
// does not encrypt, but makes package aead accept a plaintext keyset. Package insecurecleartextkeyset passes a
// cleartext.KEK. So does aead.OpenKEK for a file:// URI, because that file is a plaintext keyset.
//
// Package aead then calls [Read], which parses the keyset. With a real key-encryption key, package aead refuses a
// plaintext keyset. It then calls Read only to find out whether the error should say that the keyset is in plaintext.
package cleartext

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// KEK takes the place of a key-encryption key, and marks that the keyset is in plaintext. Both methods fail, so that
// it never passes for a key by accident.
type KEK struct{}

var errNoKEK = errors.New("aead: the KEK of package insecurecleartextkeyset cannot encrypt or decrypt (use another KEK)")

const byteOrderMark = "\ufeff"

// IsJSON distinguishes Tink's two forms. A binary keyset begins with a protobuf tag, which is never '{'.
func IsJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n"+byteOrderMark)
	return len(data) > 0 && data[0] == '{'
}

// Reader returns Tink's reader of a serialized keyset, JSON (also after a byte order mark) or binary.
func Reader(data []byte) keyset.Reader {
	if IsJSON(data) {
		return keyset.NewJSONReader(bytes.NewReader(bytes.TrimLeft(data, " \t\r\n"+byteOrderMark)))
	}
	return keyset.NewBinaryReader(bytes.NewReader(data))
}

// Read returns the keyset that data holds in plaintext. Its errors do not quote the parser's, which quote their input.
func Read(data []byte) (*keyset.Handle, error) {
	handle, err := insecurecleartextkeyset.Read(Reader(data))
	if err == nil {
		return handle, nil
	}
	parsed, parseErr := Reader(data).Read()
	if parseErr != nil || len(parsed.GetKey()) == 0 {
		return nil, errors.New("the data is not a Tink keyset in plaintext (JSON or binary)")
	}
	for _, key := range parsed.GetKey() {
		switch {
		case key.GetKeyData() == nil:
			return nil, errors.New("the data is not a Tink keyset in plaintext (JSON or binary)")
		case key.GetKeyId() == parsed.GetPrimaryKeyId() && key.GetStatus() != tinkpb.KeyStatusType_ENABLED:
			return nil, fmt.Errorf("the primary key of the keyset, key %d, is not enabled (restore an earlier version)", key.GetKeyId())
		}
	}
	return nil, fmt.Errorf("the keyset of %d keys is not valid (does it have a primary key?)", len(parsed.GetKey()))
}

// EncryptWithContext always fails.
func (KEK) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) { return nil, errNoKEK }

// DecryptWithContext always fails.
func (KEK) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) { return nil, errNoKEK }
