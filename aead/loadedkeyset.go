package aead

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// prefixSize is the length of the prefix that names the key of a ciphertext. The prefix is a byte 0x01 (TINK) or 0x00 (CRUNCHY,
// LEGACY) and the key id, big endian. Ciphertexts of RAW keys have no prefix.
const prefixSize = 5

// loadedKeyset is a keyset with its primitives. It never changes; a Keyring replaces it as a whole.
type loadedKeyset struct {
	handle  *keyset.Handle
	primary *loadedKey
	byID    map[[prefixSize]byte]*loadedKey
	raw     []*loadedKey // keys without a prefix: tried in turn
	infos   []KeyInfo    // in the order of the keyset, without counts
	keys    []*loadedKey // the same order
	refused error        // set if the KEK refuses the keyset; then only digests is set as well
	digests keyDigests   // the keys of a refused keyset, without their material
}

// loadedKey is one key of a keyset. Only an enabled key has a primitive.
type loadedKey struct {
	id      uint32
	status  keyset.KeyStatus
	prefix  []byte
	prim    *primitive
	counter *messageCounter // nil if the key's messages need no counting
}

// sealedPrefix is the prefix that this package writes. Tink's full primitives write their own.
func (k *loadedKey) sealedPrefix() []byte {
	if k.prim.tink != nil {
		return nil
	}
	return k.prefix
}

func (k *loadedKey) overhead() int { return len(k.sealedPrefix()) + k.prim.overhead }

func (k *loadedKey) open(dst, ciphertext, associatedData []byte, inPlace bool) ([]byte, error) {
	if len(ciphertext) < len(k.prefix) {
		return nil, errNotOpened
	}
	return k.prim.openTo(dst, ciphertext[len(k.sealedPrefix()):], associatedData, inPlace)
}

// newLoadedKeyset returns a keyset with the primitives of all enabled keys. It fails if one key cannot be used, because a
// keyset that opens only some of its values must not go into service.
func newLoadedKeyset(h *keyset.Handle, counters *messageCounters) (*loadedKeyset, error) {
	if h == nil || h.Len() == 0 {
		return nil, errors.New("aead: the *keyset.Handle is nil or has no keys")
	}
	r := &loadedKeyset{handle: h, byID: make(map[[prefixSize]byte]*loadedKey, h.Len())}
	info := h.KeysetInfo().GetKeyInfo()
	for i := range h.Len() {
		entry, err := h.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("aead: Tink cannot return the key at position %d of the keyset (report this bug): %w", i, err)
		}
		k := &loadedKey{id: entry.KeyID(), status: entry.KeyStatus()}
		if k.prefix, err = outputPrefix(info[i].GetOutputPrefixType(), k.id); err != nil {
			return nil, err
		}
		if k.status == keyset.Enabled {
			if k.prim, err = keyPrimitive(entry.Key()); err != nil {
				if _, prfErr := prf.NewPRFSet(h); prfErr == nil {
					return nil, errors.New("aead: the keyset holds PRF keys, which cannot seal (make AEAD keys with \"sealcache keys create\")")
				}
				return nil, fmt.Errorf("aead: key %d of type %s cannot be used: %w", k.id, shortType(info[i].GetTypeUrl()), withoutPrefix(err))
			}
			k.counter = counters.of(k.id, entry.Key())
		}
		if len(k.prefix) > 0 {
			r.byID[[prefixSize]byte(k.prefix)] = k
		} else if k.prim != nil {
			r.raw = append(r.raw, k)
		}
		if entry.IsPrimary() {
			r.primary = k
		}
		r.keys = append(r.keys, k)
		r.infos = append(r.infos, KeyInfo{
			ID: k.id, Type: shortType(info[i].GetTypeUrl()), Prefix: info[i].GetOutputPrefixType().String(),
			Status: k.status, Primary: entry.IsPrimary(),
		})
	}
	if r.primary == nil || r.primary.prim == nil {
		return nil, errors.New("aead: the keyset has no enabled primary key (restore an earlier version of the keyset)")
	}
	return r, r.prove()
}

// prove tests the primary key.
func (r *loadedKeyset) prove() error {
	if r.primary.counter != nil {
		r.primary.counter.n.Add(1)
	}
	_, err := selfTest(fmt.Sprintf("key %d in the keyset", r.primary.id),
		func(probe, ad []byte) ([]byte, error) {
			return r.primary.prim.sealTo(bytes.Clone(r.primary.sealedPrefix()), probe, ad)
		},
		func(sealed, ad []byte) ([]byte, error) { return r.open(nil, sealed, ad) })
	return err
}

// open tries the key that the prefix names, and then the keys without a prefix.
func (r *loadedKeyset) open(dst, ciphertext, associatedData []byte) ([]byte, error) {
	var named *loadedKey
	if len(ciphertext) >= prefixSize {
		named = r.byID[[prefixSize]byte(ciphertext)]
	}
	if named != nil && named.prim != nil && len(r.raw) == 0 {
		return named.open(dst, ciphertext, associatedData, inPlace(dst, ciphertext))
	}
	if len(r.raw) > 0 {
		if opened, ok := r.tryAll(named, dst, ciphertext, associatedData); ok {
			return opened, nil
		}
	}
	switch {
	case named != nil && named.prim != nil, len(ciphertext) < leastCiphertext:
		return nil, errNotOpened
	case len(ciphertext) >= prefixSize+gcmOverhead && ciphertext[0] <= 1: // it names a key
	case len(r.raw) > 0:
		return nil, errNotOpened // keys without a prefix write any form
	default:
		return nil, errOtherForm
	}
	e := &KeyError{KeyID: binary.BigEndian.Uint32(ciphertext[1:prefixSize]), Present: r.usable()}
	if named != nil {
		e.Status = named.status
	}
	return nil, e
}

// tryAll opens ciphertext under the key that it names, then under each key without a prefix. Opening in place
// destroys the ciphertext if it fails, so each attempt gets separate memory.
func (r *loadedKeyset) tryAll(named *loadedKey, dst, ciphertext, associatedData []byte) ([]byte, bool) {
	try := func(k *loadedKey) ([]byte, bool) {
		if !inPlace(dst, ciphertext) {
			opened, err := k.open(dst, ciphertext, associatedData, false)
			return opened, err == nil
		}
		opened, err := k.open(nil, ciphertext, associatedData, false)
		if err != nil {
			return nil, false
		}
		return append(ciphertext[:0], opened...), true
	}
	if named != nil && named.prim != nil {
		if opened, ok := try(named); ok {
			return opened, true
		}
	}
	for _, k := range r.raw {
		if opened, ok := try(k); ok {
			return opened, true
		}
	}
	return nil, false
}

// usable lists the ids of the enabled keys, primary first.
func (r *loadedKeyset) usable() []uint32 {
	ids := []uint32{r.primary.id}
	for _, k := range r.keys {
		if k.prim != nil && k != r.primary {
			ids = append(ids, k.id)
		}
	}
	return ids
}

// same reports whether two keysets have the same keys, ids, status, order and primary key.
func (r *loadedKeyset) same(other *loadedKeyset) bool {
	if len(r.infos) != len(other.infos) {
		return false
	}
	for i := range r.infos {
		if r.infos[i] != other.infos[i] {
			return false
		}
		a, errA := r.handle.Entry(i)
		b, errB := other.handle.Entry(i)
		if errA != nil || errB != nil || !a.Key().Equal(b.Key()) {
			return false
		}
	}
	return true
}

// keyPrimitive returns the primitive of one key: our own for AES-GCM, Tink's for other types.
func keyPrimitive(k key.Key) (*primitive, error) {
	if gcm, ok := k.(*aesgcm.Key); ok {
		if p, ok := gcm.Parameters().(*aesgcm.Parameters); ok && p.IVSizeInBytes() == gcmNonceSize && p.TagSizeInBytes() == gcmTagSize {
			material := gcm.KeyBytes().Data(insecuresecretdataaccess.Token{})
			defer clear(material)
			return newGCMPrimitive(material, true)
		}
	}
	// A keyset of this key alone: Tink then writes and checks the key's prefix.
	m := keyset.NewManager()
	id, err := m.AddKey(k)
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	h, err := m.Handle()
	if err != nil {
		return nil, err
	}
	a, err := tinkaead.New(h)
	if err != nil {
		return nil, fmt.Errorf("aead: Tink cannot encrypt with such a key (use AES-256-GCM keys): %w", err)
	}
	return newTinkPrimitive(a)
}

func outputPrefix(t tinkpb.OutputPrefixType, id uint32) ([]byte, error) {
	switch t {
	case tinkpb.OutputPrefixType_TINK:
		return binary.BigEndian.AppendUint32([]byte{1}, id), nil
	case tinkpb.OutputPrefixType_CRUNCHY, tinkpb.OutputPrefixType_LEGACY:
		return binary.BigEndian.AppendUint32([]byte{0}, id), nil
	case tinkpb.OutputPrefixType_RAW:
		return nil, nil
	}
	return nil, fmt.Errorf("aead: key %d has the output prefix type %v, which is unknown (want TINK, CRUNCHY, LEGACY or RAW)", id, t)
}

// shortType turns "type.googleapis.com/google.crypto.tink.AesGcmKey" into "AesGcmKey".
func shortType(typeURL string) string {
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
