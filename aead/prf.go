package aead

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// OpenPRF reads a keyset of PRF keys for keyed pseudonyms and tokens. CreateKeyset makes one from a PRF template. Of the
// options only WithKeysetName and WithAssociatedData apply. The set does not reload.
//
// Each PRF of the set has a method KeysetPosition() int. It returns the position of the key in the keyset, which a
// prf.Set of Tink does not keep. New keys are appended to a keyset, so that the oldest key has the lowest position. PRFs
// of HMAC keys with SHA-256 or SHA-512 also have AppendPRF(dst, input []byte, outputLength uint32) ([]byte, error). It
// appends the output of ComputePRF to dst, without allocating if dst has the capacity for the whole HMAC. These PRFs
// return the same bytes as Tink's, in about a fifth of the time.
func OpenPRF(ctx context.Context, src Source, kek tink.AEADWithContext, opts ...KeyringOption) (*prf.Set, error) {
	c, err := keyringFunction{name: "OpenPRF", binds: true}.config(kek, opts)
	if err != nil {
		return nil, err
	}
	data, err := newSourceReader(src).load(ctx)
	if err != nil {
		return nil, err
	}
	spy := newKEKSpy(kek)
	spy.unnamed = unnamedWarning(c)
	handle, err := parseKeyset(ctx, data, spy, c.associatedData)
	if err != nil {
		return nil, err
	}
	warnOfKeysetFile(ctx, src, kek, c.log)
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		return nil, &shortError{"aead: OpenPRF: the keyset does not hold PRF keys (\"sealcache keys create --type prf\" makes PRF keys)", err}
	}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("aead: Tink cannot return the key at position %d of the keyset (report this bug): %w", i, err)
		}
		if f, ok := set.PRFs[entry.KeyID()]; ok {
			set.PRFs[entry.KeyID()] = newPositionedPRF(f, entry, i)
		}
	}
	return set, nil
}

// newPositionedPRF returns a PRF that returns what Tink's PRF of an entry returns.
func newPositionedPRF(f prf.PRF, entry *keyset.Entry, position int) prf.PRF {
	p := positionedPRF{f, position}
	if keyed := keyedHMAC(entry.Key()); keyed != nil {
		return &hmacPRF{positionedPRF: p, keyed: keyed}
	}
	return p
}

// positionedPRF is a PRF that knows the position of its key in the keyset.
type positionedPRF struct {
	prf.PRF
	position int
}

// KeysetPosition returns the position of the key in its keyset, from 0.
func (p positionedPRF) KeysetPosition() int { return p.position }

// hmacPRF is the PRF of an HMAC key over crypto/hmac. Tink's PRF sets crypto/hmac up with the key again for each output.
// FIPS 198-1, section 6, allows to keep that state; it is as secret as the key, which Tink keeps, too.
type hmacPRF struct {
	positionedPRF
	keyed hash.Cloner // before the first byte of input; it never changes
	used  sync.Pool   // of hash.Hash: clones of keyed in the same state
}

// keyedHMAC returns an HMAC that can be cloned, or nil for another type of key.
func keyedHMAC(k key.Key) hash.Cloner {
	h, ok := k.(*hmacprf.Key)
	if !ok {
		return nil
	}
	parameters, ok := h.Parameters().(*hmacprf.Parameters)
	if !ok {
		return nil
	}
	var newHash func() hash.Hash
	switch parameters.HashType() {
	case hmacprf.SHA256:
		newHash = sha256.New
	case hmacprf.SHA512:
		newHash = sha512.New
	default:
		return nil
	}
	material := h.KeyBytes().Data(insecuresecretdataaccess.Token{})
	defer clear(material)
	keyed, ok := hmac.New(newHash, material).(hash.Cloner)
	if !ok {
		return nil // not Go's own HMAC
	}
	keyed.Reset() // computes the state that the clones share
	return keyed
}

var errLongPRF = errors.New("aead: compute the PRF: the caller asks for more bytes than the hash function of the key returns")

// AppendPRF appends the first outputLength bytes of the HMAC of input to dst.
func (p *hmacPRF) AppendPRF(dst, input []byte, outputLength uint32) ([]byte, error) {
	if uint64(outputLength) > uint64(p.keyed.Size()) {
		return nil, errLongPRF
	}
	mac, ok := p.used.Get().(hash.Hash)
	if !ok {
		clone, err := p.keyed.Clone()
		if err != nil {
			return nil, fmt.Errorf("aead: Go's package crypto/hmac cannot copy the state of an HMAC (report this bug): %w", err)
		}
		mac = clone
	}
	mac.Write(input) // never fails
	out := mac.Sum(dst)
	mac.Reset() // the input may be a secret
	p.used.Put(mac)
	return out[:len(dst)+int(outputLength)], nil
}

// ComputePRF returns the first outputLength bytes of the HMAC of input.
func (p *hmacPRF) ComputePRF(input []byte, outputLength uint32) ([]byte, error) {
	return p.AppendPRF(make([]byte, 0, p.keyed.Size()), input, outputLength)
}
