package aead

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	gcmpb "github.com/tink-crypto/tink-go/v2/proto/aes_gcm_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/proto"
)

const (
	// wrappedLenSize is the length field before the wrapped DEK, big endian.
	wrappedLenSize = 4
	// maxWrappedSize is the longest wrapped DEK that Tink accepts.
	maxWrappedSize = 4096

	typePrefix    = "type.googleapis.com/google.crypto.tink."
	aesGCMTypeURL = typePrefix + "AesGcmKey"
)

// envelopeKeyType reports whether Tink's KMS envelope allows data keys of a type. XAES-256-GCM is not among them.
func envelopeKeyType(typeURL string) bool {
	switch typeURL {
	case aesGCMTypeURL, typePrefix + "AesCtrHmacAeadKey", typePrefix + "AesGcmSivKey",
		typePrefix + "ChaCha20Poly1305Key", typePrefix + "XChaCha20Poly1305Key":
		return true
	}
	return false
}

// splitEnvelope returns the parts of a ciphertext: the wrapped DEK with its length field in front, and the payload. Its limits
// are those of Tink's parser.
func splitEnvelope(ciphertext []byte) (header, payload []byte, ok bool) {
	if len(ciphertext) <= wrappedLenSize {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(ciphertext)
	if n == 0 || n > maxWrappedSize || int(n) > len(ciphertext)-wrappedLenSize {
		return nil, nil, false
	}
	end := wrappedLenSize + int(n)
	return ciphertext[:end:end], ciphertext[end:], true
}

// dataKey is a data key under one wrapped form.
//
// A data key that this process makes is wrapped, proved, in service, superseded or retired. It is proved when the KEK has
// unwrapped it and the result is the same. In service it seals and opens. When its successor is proved, the successor takes
// its place, and it only opens. It is retired at a limit, or when the KEK has refused it. A retired data key must not seal,
// even if there is no successor yet. A step that fails leaves the data key in service as it is.
//
// A data key that is read from the store is unwrapped, then proved. It is proved when a value has authenticated under it. If
// the first value does not, the KEK is asked once more, and its answer is compared.
type dataKey struct {
	tenant   string // its KEK unwraps the key; "" for the Envelope itself
	header   []byte // the wrapped DEK as it stands in front of every message: length, bytes
	prim     *primitive
	digest   [sha256.Size]byte // of the serialized data key
	identity *identity         // guarded by the cache
	seals    bool

	confirmed   atomic.Int64 // when the KEK last wrapped or unwrapped it
	nextConfirm atomic.Int64 // when it may be asked again in the background
	confirming  atomic.Bool
	proved      atomic.Bool  // a value has authenticated under this form, or this process made it
	settled     atomic.Int64 // until then the KEK is not doubted again: it gave the same answer twice
	used        atomic.Bool  // since the cache last looked for something to evict
	epoch       uint64       // Envelope.epoch when the KEK was asked

	born    int64       // when it was wrapped, for the one that seals
	renew   atomic.Bool // a successor is due, even within the limits
	retired atomic.Bool // must not seal any more

	_        [64]byte // the counters change with every message; the fields above are only read
	messages atomic.Uint64
	bytes    atomic.Uint64
}

// newDataKey returns the data key of a serialized Tink key.
func newDataKey(typeURL string, serialized, header []byte, sealing bool) (*dataKey, error) {
	prim, err := dataKeyPrimitive(typeURL, serialized, sealing)
	if err != nil {
		return nil, err
	}
	return &dataKey{header: header, prim: prim, digest: sha256.Sum256(serialized), identity: &identity{prim: prim}, seals: sealing}, nil
}

func (k *dataKey) name() dataKeyName          { return dataKeyName{k.tenant, string(k.header)} }
func (k *dataKey) identityName() identityName { return identityName{k.tenant, k.digest} }

func (k *dataKey) same(other *dataKey) bool { return k.digest == other.digest }

// confirm extends a data key, and never shortens it.
func (k *dataKey) confirm(at int64) {
	for {
		old := k.confirmed.Load()
		if old >= at || k.confirmed.CompareAndSwap(old, at) {
			return
		}
	}
}

// never is a time of confirmation so long ago that no TTL reaches it.
const never = -1 << 62

// limits bounds what one data key may seal.
type limits struct {
	messages, bytes uint64
	age             int64
}

// soft returns three quarters of the limits. From there on, the successor is made.
func (l limits) soft() limits {
	return limits{l.messages - l.messages/4, l.bytes - l.bytes/4, l.age - l.age/4}
}

// reserve counts a message of n bytes before it is sealed, so that the limits hold under any concurrency. ok reports whether the
// message may be sealed. due reports whether a successor must be made.
func (k *dataKey) reserve(now int64, n uint64, hard, soft *limits) (ok, due bool) {
	age := now - k.born
	if age >= hard.age || k.retired.Load() {
		return false, true
	}
	messages := k.messages.Add(1)
	if messages > hard.messages {
		k.messages.Add(^uint64(0))
		return false, true
	}
	total := k.bytes.Add(n)
	if total > hard.bytes || total < n {
		k.bytes.Add(-n)
		k.messages.Add(^uint64(0))
		return false, true
	}
	return true, messages >= soft.messages || total >= soft.bytes || age >= soft.age || k.renew.Load()
}

// fresh reports whether the KEK has confirmed the key within its TTL.
func (k *dataKey) fresh(now, ttl int64) bool { return now-k.confirmed.Load() < ttl }

func (k *dataKey) is(header []byte) bool { return k != nil && bytes.Equal(k.header, header) }

var errNotDataKey = errors.New("the decrypted bytes are not a data key of the expected type (set the writer's WithDataKeyTemplate)")

// dataKeyPrimitive returns the primitive of a serialized Tink key, as NewKeyData of Tink's registry makes it. The overhead is
// known for AES-GCM only.
func dataKeyPrimitive(typeURL string, serialized []byte, sealing bool) (*primitive, error) {
	if typeURL == aesGCMTypeURL {
		k := new(gcmpb.AesGcmKey)
		if err := proto.Unmarshal(serialized, k); err != nil || k.GetVersion() != 0 {
			return nil, errNotDataKey
		}
		defer clear(k.KeyValue)
		p, err := newGCMPrimitive(k.GetKeyValue(), sealing)
		if err != nil {
			return nil, errNotDataKey
		}
		return p, nil
	}
	p, err := registry.Primitive(typeURL, serialized)
	if err != nil {
		return nil, errNotDataKey
	}
	a, ok := p.(tink.AEAD)
	if !ok {
		return nil, errNotDataKey
	}
	return &primitive{tink: a}, nil
}

// dataKeyHeader returns a wrapped DEK with its length in front. It refuses a length that Tink does not read.
func dataKeyHeader(wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrappedSize {
		return nil, fmt.Errorf("the key service returned an encrypted data key of %d bytes (1 to %d are allowed)", len(wrapped), maxWrappedSize)
	}
	header := make([]byte, wrappedLenSize, wrappedLenSize+len(wrapped))
	binary.BigEndian.PutUint32(header, uint32(len(wrapped)))
	return append(header, wrapped...), nil
}
