package aead

import (
	"bytes"
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

// envelopeKeyType tells whether Tink's KMS envelope allows data keys of a type. XAES-256-GCM is not among them.
func envelopeKeyType(typeURL string) bool {
	switch typeURL {
	case aesGCMTypeURL, typePrefix + "AesCtrHmacAeadKey", typePrefix + "AesGcmSivKey",
		typePrefix + "ChaCha20Poly1305Key", typePrefix + "XChaCha20Poly1305Key":
		return true
	}
	return false
}

// splitEnvelope takes a ciphertext apart: the wrapped DEK with its length field in front, and the payload. Its limits
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

// dataKey is an unwrapped data key. The one that seals is also among those that open.
type dataKey struct {
	header []byte // the wrapped DEK as it stands in front of every message: length, bytes
	prim   *primitive

	confirmed   atomic.Int64 // when the KEK last wrapped or unwrapped it
	nextConfirm atomic.Int64 // when it may be asked again in the background
	confirming  atomic.Bool
	used        atomic.Bool // since the cache last looked for something to evict

	born    int64       // when it was wrapped, for the one that seals
	retired atomic.Bool // must not seal any more

	_        [64]byte // the counters change with every message; what is above is only read
	messages atomic.Uint64
	bytes    atomic.Uint64
}

// never is a time of confirmation that no TTL reaches.
const never = -1 << 62

// limits are those of a data key for sealing.
type limits struct {
	messages, bytes uint64
	age             int64
}

// soft is where the successor is made: three quarters.
func (l limits) soft() limits {
	return limits{l.messages - l.messages/4, l.bytes - l.bytes/4, l.age - l.age/4}
}

// reserve counts a message of n bytes before it is sealed. It fails if the message would pass a limit: counting first
// is what keeps the limits under any concurrency. due asks for a successor.
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
	return true, messages >= soft.messages || total >= soft.bytes || age >= soft.age
}

// fresh tells whether the KEK has confirmed the key within its TTL.
func (k *dataKey) fresh(now, ttl int64) bool { return now-k.confirmed.Load() < ttl }

func (k *dataKey) is(header []byte) bool { return bytes.Equal(k.header, header) }

var errDataKeyType = errors.New("aead: the unwrapped data key is not of the type that this Envelope uses")

// dataKeyPrimitive makes the primitive of a serialized Tink key, as NewKeyData of Tink's registry makes it. For key types
// other than AES-GCM it does not know the overhead.
func dataKeyPrimitive(typeURL string, serialized []byte, sealing bool) (*primitive, error) {
	if typeURL == aesGCMTypeURL {
		k := new(gcmpb.AesGcmKey)
		if err := proto.Unmarshal(serialized, k); err != nil || k.GetVersion() != 0 {
			return nil, errDataKeyType
		}
		defer clear(k.KeyValue)
		p, err := newGCMPrimitive(k.GetKeyValue(), sealing)
		if err != nil {
			return nil, errDataKeyType
		}
		return p, nil
	}
	p, err := registry.Primitive(typeURL, serialized)
	if err != nil {
		return nil, errDataKeyType
	}
	a, ok := p.(tink.AEAD)
	if !ok {
		return nil, errDataKeyType
	}
	return &primitive{tink: a}, nil
}

// dataKeyHeader puts the length in front of a wrapped DEK, if Tink could read it back.
func dataKeyHeader(wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrappedSize {
		return nil, fmt.Errorf("aead: the key-encryption key returned a wrapped data key of %d bytes; from 1 to %d are allowed", len(wrapped), maxWrappedSize)
	}
	header := make([]byte, wrappedLenSize, wrappedLenSize+len(wrapped))
	binary.BigEndian.PutUint32(header, uint32(len(wrapped)))
	return append(header, wrapped...), nil
}
