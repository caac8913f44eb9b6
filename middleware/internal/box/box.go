// Package box seals and opens all values that this module stores. To seal is to encrypt so that altered values are detected.
// To open is to decrypt, and to check that the value was not altered.
//
// [New] returns a [Box] for values of one kind in one namespace. Examples of kinds are cache values and job payloads. A
// namespace is the name that an application gives to a cache or to its jobs. [Box.Seal] encrypts a value, and writes a
// header in front of the encrypted value. The value is bound to the namespace, the kind and its names: the cache key, or
// the type, queue and id of a job. So [Box.Open] needs the same namespace, kind and names.
//
// Each error of Box.Open wraps an error of package aead. [aead.ErrUnauthentic] means that the value was altered, was
// sealed with other keys, or is bound to another namespace, kind or name. [aead.ErrUnknownKey] means that this process
// does not have the encryption key of the value. An error of unknown cause wraps [aead.ErrKeyServiceUnavailable], so that
// the caller tries again and does not drop a valid value.
//
// [Refused] reports whether an error is aead.ErrUnauthentic or aead.ErrUnknownKey. [Final] reports whether a later call
// of Box.Open will certainly fail, too. Final returns false for a key that the keyset of this process does not list:
// the process may load that key later.
//
// A Box is safe for concurrent use.
package box

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// A Box seals and opens the values of one kind in one namespace under one AEAD.
type Box struct {
	aead     tink.AEADWithContext
	appender aead.AppendAEAD // aead, or nil
	sized    interface{ Overhead() int }
	kind     wire.Kind
	context  []byte // the associated data before the names
	reads    *Reads // nil: not counted
	report   func(ctx context.Context, keyID string)
	proves   bool
}

// New returns a Box. An empty namespace means none. The caller checks the namespace with CheckNamespace.
func New(a tink.AEADWithContext, kind wire.Kind, namespace string) (*Box, error) {
	if nilcheck.IsNil(a) {
		return nil, errors.New("the AEAD is nil (make one with aead.NewEnvelope or aead.OpenKeyring)")
	}
	b := &Box{aead: a, kind: kind, context: wire.AppendContext(nil, kind, namespace)}
	b.appender, _ = a.(aead.AppendAEAD)
	b.sized, _ = a.(interface{ Overhead() int })
	return b, nil
}

// Count has Open count in r, which other boxes may share, and call report for each counted value, with the id of the key or
// "unknown". Count is called before the Box is used.
func (b *Box) Count(r *Reads, report func(ctx context.Context, keyID string)) {
	b.reads, b.report = r, report
}

// Prove has Seal open each value that an AEAD of the application has sealed. A key service may once answer with something else, such as
// the page of a proxy. The AEADs of package aead prove their keys themselves. It is called before the Box is used.
func (b *Box) Prove() { b.proves = b.appender == nil }

// unknownOverhead is the room for an AEAD that does not report its overhead.
const unknownOverhead = 256

// Size returns the capacity that Seal needs for n bytes of plaintext. An AEAD that does not report its overhead may need
// more.
func (b *Box) Size(n int) int {
	overhead := unknownOverhead
	if b.sized != nil {
		overhead = b.sized.Overhead()
	}
	return wire.MaxHeaderSize + overhead + n
}

// maxWrapped is the room for a wrapped data key and what surrounds it.
const maxWrapped = wire.MaxWrappedBytes + 128

// MaxSize bounds the length of a sealed value of n bytes under any key, even a key with a larger overhead than the present
// one.
func (b *Box) MaxSize(n int) int { return max(b.Size(n), wire.MaxHeaderSize+maxWrapped+n) }

// Seal appends the sealed form of plaintext to dst, whose spare capacity plaintext must not overlap. It binds the value to
// names, of which each kind has a fixed number. Only the type, flags and bound names of h are used. The text of an error does not
// name the action: the caller puts it before the text. Open does the same.
func (b *Box) Seal(ctx context.Context, dst []byte, h wire.Header, plaintext []byte, names ...string) ([]byte, error) {
	start := len(dst)
	if need := b.Size(len(plaintext)); cap(dst)-start < need {
		dst = slices.Grow(dst, need)
	}
	h.Kind = b.kind
	out := h.Append(dst)
	header := len(out)
	out, err := b.encrypt(ctx, out, plaintext, b.bind(out[start:], names))
	if err != nil {
		return nil, err
	}
	if len(out) <= header {
		return nil, fmt.Errorf("%w: the AEAD returned neither a ciphertext nor an error", aead.ErrKeyServiceUnavailable)
	}
	if b.proves {
		opened, err := b.open(ctx, out[start:], header-start, false, names)
		switch {
		case err != nil && Undecided(err):
			return nil, err
		case err != nil || !bytes.Equal(opened, plaintext):
			return nil, fmt.Errorf("%w: the AEAD does not open the value that it just sealed", aead.ErrKeyServiceUnavailable)
		}
	}
	return out, nil
}

// encrypt appends the ciphertext of plaintext to out.
func (b *Box) encrypt(ctx context.Context, out, plaintext []byte, ad *[]byte) (_ []byte, err error) {
	defer recovered(&err)
	if b.appender != nil {
		if out, err = b.appender.SealTo(ctx, out, plaintext, *ad); err == nil {
			recycle(ad)
		}
		return out, errtext.Guard(err)
	}
	ct, err := b.aead.EncryptWithContext(ctx, plaintext, *ad)
	if err != nil {
		return nil, explain(errtext.Guard(err))
	}
	return append(out, ct...), nil
}

// recovered turns a panic of the AEAD into an error. A planted ciphertext may be shorter than an AEAD of the application expects,
// and many values are opened in goroutines without a caller. The value of the panic is not shown, because it may hold a secret.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: the code of the AEAD panicked with a value of type %T", aead.ErrKeyServiceUnavailable, p)
	}
}

// Parse returns the header of stored and its length. A value of another kind is ErrUnauthentic: it was moved here.
func (b *Box) Parse(stored []byte) (wire.Header, int, error) {
	h, n, err := wire.Parse(stored)
	if err == nil && h.Kind != b.kind {
		return h, n, fmt.Errorf("%w: the value is a %s, but a %s is expected", aead.ErrUnauthentic, h.Kind, b.kind)
	}
	return h, n, err
}

// Open returns the plaintext of stored, whose header has n bytes. If owned, it opens in place: stored is overwritten and
// the plaintext shares its memory.
func (b *Box) Open(ctx context.Context, stored []byte, n int, owned bool, names ...string) ([]byte, error) {
	id, named := b.reads.keyOf(stored[n:])
	plaintext, err := b.open(ctx, stored, n, owned, names)
	if err != nil {
		return nil, err
	}
	if named {
		if label := b.reads.count(id); label != "" {
			b.report(ctx, label)
		}
	}
	return plaintext, nil
}

// open is Open without counting.
func (b *Box) open(ctx context.Context, stored []byte, n int, owned bool, names []string) (plaintext []byte, err error) {
	ad := b.bind(stored[:n], names)
	ct := stored[n:]
	defer recovered(&err)
	switch {
	case b.appender == nil:
		plaintext, err = b.aead.DecryptWithContext(ctx, ct, *ad)
	case owned:
		plaintext, err = b.appender.OpenTo(ctx, ct[:0], ct, *ad)
		recycle(ad)
	default:
		plaintext, err = b.appender.OpenTo(ctx, nil, ct, *ad)
		recycle(ad)
	}
	err = errtext.Guard(err)
	switch {
	case err == nil:
	case b.appender != nil && notAsked(err):
		return nil, &outageError{cause: err, unasked: true}
	default:
		return nil, explain(err)
	}
	return plaintext, nil
}

// Probe proves that the AEAD works: a random value differs from its sealed form, opens again, and does not open under
// another name. It stores nothing. The result is the ciphertext, which shows the key that seals now (wire.KeyOf).
func (b *Box) Probe(ctx context.Context) ([]byte, error) {
	probe := make([]byte, 32)
	rand.Read(probe) // never fails
	const name = "sealcache probe"
	sealed, err := b.Seal(ctx, nil, wire.Header{Type: wire.Bytes}, probe, name)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(sealed, probe) {
		return nil, errors.New("the AEAD does not encrypt: a value that it sealed contains the plaintext")
	}
	opened, err := b.open(ctx, sealed, wire.HeaderSize, false, []string{name})
	if err != nil {
		return nil, fmt.Errorf("the AEAD did not open a value that it had just sealed: %w", err)
	}
	if !bytes.Equal(opened, probe) {
		return nil, errors.New("decryption did not return the bytes that were encrypted")
	}
	if _, err := b.open(ctx, sealed, wire.HeaderSize, false, []string{name + " elsewhere"}); err == nil {
		return nil, errors.New("the AEAD does not authenticate associated data: it opens a value with other associated data")
	}
	return sealed[wire.HeaderSize:], nil
}

// bindings holds memory for associated data. Only an AppendAEAD promises not to keep it after a call.
var bindings = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a pool has no state

// maxPooledBinding bounds the memory that is kept for associated data.
const maxPooledBinding = 64 << 10

func (b *Box) bind(header []byte, names []string) *[]byte {
	ad, _ := bindings.Get().(*[]byte)
	d := append((*ad)[:0], b.context...)
	for _, name := range names {
		d = wire.AppendName(d, name)
	}
	*ad = append(d, header...)
	return ad
}

func recycle(ad *[]byte) {
	if cap(*ad) <= maxPooledBinding {
		bindings.Put(ad)
	}
}
