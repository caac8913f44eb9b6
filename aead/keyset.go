package aead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/proto"

	"github.com/sealcache/sealcache/aead/internal/cleartext"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

var errNilKEK = errors.New("aead: keyset: the key-encryption key is nil (for an unencrypted keyset: insecurecleartextkeyset)")

// CreateKeyset makes a keyset of one new key from the template t, seals it under kek, and writes it to w as Tink's JSON.
// The template is that of an AEAD (for a Keyring, also as the KEK of an Envelope) or of a PRF (for OpenPRF).
//
// WithKeysetName and WithAssociatedData bind the keyset to a name or to associated data, which OpenKeyring then needs
// too. No other option applies. w gets the whole keyset in one call, or nothing. To replace a file, write to a temporary
// one and rename it. The ids, types and states of the keys are readable in the file, as in every Tink keyset. kek is not
// asked to decrypt; OpenKeyring asks it before anything is sealed.
func CreateKeyset(ctx context.Context, w io.Writer, kek tink.AEADWithContext, t *tinkpb.KeyTemplate, opts ...KeyringOption) error {
	c, err := keyringFunction{name: "CreateKeyset", binds: true}.config(kek, opts)
	if err != nil {
		return err
	}
	if nilcheck.IsNil(kek) {
		return errNilKEK
	}
	if nilcheck.IsNil(w) {
		return errors.New("aead: create keyset: the writer is nil")
	}
	handle, err := newKeysetHandle(t)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	spy := newKEKSpy(kek)
	if err := handle.WriteWithContext(ctx, keyset.NewJSONWriter(&buf), spy, c.associatedData); err != nil {
		if spy.err != nil {
			return kekError(encryptKeyset, spy.err)
		}
		return fmt.Errorf("aead: Tink cannot encode the new keyset (report this bug): %w", err)
	}
	n, err := w.Write(buf.Bytes())
	if err == nil && n < buf.Len() {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("aead: write keyset: the writer failed: %w", errtext.Guard(err))
	}
	return nil
}

// newKeysetHandle makes a key and checks that this package can use it.
func newKeysetHandle(t *tinkpb.KeyTemplate) (*keyset.Handle, error) {
	if t == nil {
		return nil, errors.New("aead: create keyset: the key template is nil")
	}
	handle, err := keyset.NewHandle(t)
	if err != nil {
		return nil, fmt.Errorf("aead: create keyset: Tink makes no key from the template of type %q (use another): %w", shortType(t.GetTypeUrl()), err)
	}
	// Tink's own constructor of AES-GCM fails in FIPS 140-only mode; the primitive of a Keyring does not.
	_, aeadErr := newLoadedKeyset(handle, &messageCounters{})
	if aeadErr == nil {
		return handle, nil
	}
	if _, err := prf.NewPRFSet(handle); err == nil {
		return handle, nil
	}
	if cause := errors.Unwrap(aeadErr); cause != nil {
		aeadErr = cause // the caller does not know the id of the key
	}
	return nil, fmt.Errorf("aead: the key template of type %s makes neither supported AEAD keys nor PRF keys: %w", shortType(t.GetTypeUrl()), withoutPrefix(aeadErr))
}

// parseKeyset opens a serialized keyset. The errors of parsers are not passed on: they quote their input, which may be
// a keyset in plaintext.
func parseKeyset(ctx context.Context, data []byte, spy *kekSpy, associatedData []byte) (*keyset.Handle, error) {
	if nilcheck.IsNil(spy.kek) {
		return nil, errNilKEK
	}
	if _, ok := spy.kek.(cleartext.KEK); ok {
		return parseCleartext(data)
	}
	if !isSealedKeyset(data) {
		if _, err := parseCleartext(data); err == nil {
			return nil, errors.New("aead: the keyset is in plaintext (use an encrypted keyset, made with \"sealcache keys create\")")
		}
		return nil, errors.New("aead: the keyset is not an encrypted Tink keyset (JSON or binary)")
	}
	spy.err = nil
	handle, err := keyset.ReadWithContext(ctx, cleartext.Reader(data), spy, associatedData)
	_, set := spy.kek.(*KEKSet) // in an outage of one member, another one may have refused the name
	if first := spy.err; spy.unnamed != nil && (isRefusal(first) || set && first != nil) {
		if handle, err = keyset.ReadWithContext(ctx, cleartext.Reader(data), spy, nil); spy.err == nil {
			spy.unnamed(ctx)
		} else if isRefusal(spy.err) || !isRefusal(first) {
			spy.err = first
		}
	}
	if spy.err != nil {
		return nil, keysetError(spy.kek, spy.err)
	}
	if err != nil {
		return nil, errors.New("aead: the keyset was decrypted, but it is not a valid Tink keyset (restore an earlier version)")
	}
	return handle, nil
}

// isSealedKeyset reports whether data has the form of a keyset that a key-encryption key sealed. A binary keyset in
// plaintext parses as an encrypted one with an unknown field. The bytes of a key are in the place of the ciphertext. They
// must not be sent to a key service.
func isSealedKeyset(data []byte) bool {
	encrypted, err := cleartext.Reader(data).ReadEncrypted()
	return err == nil && len(encrypted.GetEncryptedKeyset()) > 0 && len(encrypted.ProtoReflect().GetUnknown()) == 0
}

func parseCleartext(data []byte) (*keyset.Handle, error) {
	handle, err := cleartext.Read(data)
	if err != nil && isSealedKeyset(data) {
		return nil, errors.New("aead: the keyset is encrypted, so it cannot be a KEK (use the KEK that encrypted it instead)")
	}
	if err != nil {
		return nil, fmt.Errorf("aead: read keyset: %w", err)
	}
	return handle, nil
}

// kekSpy keeps the error of a key-encryption key, which Tink flattens into a text when it reads or writes a keyset. It
// abandons a KEK that ignores its context, as an Envelope does. It is for one caller at a time.
type kekSpy struct {
	kek     tink.AEADWithContext
	slots   chan struct{}
	unnamed func(context.Context) // called when a keyset opened without its name; nil if only associated data counts
	err     error
}

// unnamedWarning returns the function that warns of a keyset that was sealed without the name of WithKeysetName, or
// nil.
func unnamedWarning(c *keyringConfig) func(context.Context) {
	if c.name == "" {
		return nil
	}
	return func(ctx context.Context) {
		c.log.WarnContext(ctx, "sealcache: the keyset is not bound to its name, so another keyset could replace it (run \"sealcache keys rewrap\")", "keyset_name", c.name)
	}
}

func newKEKSpy(kek tink.AEADWithContext) *kekSpy {
	return &kekSpy{kek: kek, slots: make(chan struct{}, wrapParallel)}
}

func (s *kekSpy) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return s.call(ctx, func() ([]byte, error) { return s.kek.EncryptWithContext(ctx, plaintext, bytes.Clone(associatedData)) })
}

func (s *kekSpy) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return s.call(ctx, func() ([]byte, error) { return unwrapKey(ctx, s.kek, ciphertext, [][]byte{associatedData}, isKeyset) })
}

// isKeyset reports whether decrypted bytes are a serialized keyset.
func isKeyset(decrypted []byte) bool {
	k := new(tinkpb.Keyset)
	return proto.Unmarshal(decrypted, k) == nil && len(k.GetKey()) > 0
}

func (s *kekSpy) call(ctx context.Context, call func() ([]byte, error)) (out []byte, err error) {
	defer func() { s.err = err }()
	if err := take(ctx, s.slots); err != nil {
		return nil, err
	}
	return callKEK(ctx, releaser(s.slots), call)
}
