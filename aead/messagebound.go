package aead

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead/aesctrhmac"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/aead/chacha20poly1305"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
)

const (
	// maxRandomNonces is how many messages one key may seal with random 96-bit nonces, over all processes (NIST SP
	// 800-38D, section 8.3).
	maxRandomNonces = 1 << 32
	// warnRandomNonces is the number of messages at which a Keyring warns. If sixteen processes share the key and seal
	// equally often, they reach the bound together at this time.
	warnRandomNonces = maxRandomNonces / 16
)

// messageCounter counts what this process sealed under one key.
type messageCounter struct {
	n      atomic.Uint64
	warned atomic.Bool
}

// reserve counts one message before it is sealed, and fails if the key may not seal another.
func (c *messageCounter) reserve(keyID uint32, log *slog.Logger) error {
	n := c.n.Add(1)
	if n < warnRandomNonces {
		return nil
	}
	if n > maxRandomNonces {
		c.n.Add(^uint64(0))
		return fmt.Errorf("%w: key %d, %d messages (rotate the keyset)", ErrKeyExhausted, keyID, uint64(maxRandomNonces))
	}
	if c.warned.CompareAndSwap(false, true) {
		log.Warn("sealcache: the primary key has sealed nearly as many messages as is safe (rotate the keyset, or use an Envelope)",
			"key_id", keyID, "messages_of_this_process", n, "allowed_over_all_processes", uint64(maxRandomNonces))
	}
	return nil
}

// messageCounters holds the counters of a Keyring. They survive a reload. A counter is found by the id of the key and a digest
// of its bytes, so that the bytes are not kept.
type messageCounters struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]*messageCounter
}

// of returns the counter of k, or nil if k's nonces need no counting.
func (c *messageCounters) of(id uint32, k key.Key) *messageCounter {
	material, ok := boundKeyBytes(k)
	if !ok {
		return nil
	}
	h := sha256.New()
	fmt.Fprintf(h, "sealcache message counter %d:", id)
	h.Write(material)
	clear(material)
	digest := [sha256.Size]byte(h.Sum(nil))

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[[sha256.Size]byte]*messageCounter)
	}
	counter, ok := c.m[digest]
	if !ok {
		counter = new(messageCounter)
		c.m[digest] = counter
	}
	return counter
}

// boundKeyBytes returns a copy of the material of a key that is bound to 2^32 messages. XAES-256-GCM and XChaCha20-Poly1305 have
// longer nonces. AES-GCM-SIV survives a repeated nonce (RFC 8452, section 9). AES-CTR-HMAC is bound only if its initial value
// has fewer than 16 bytes.
func boundKeyBytes(k key.Key) ([]byte, bool) {
	switch k := k.(type) {
	case *aesgcm.Key:
		return k.KeyBytes().Data(insecuresecretdataaccess.Token{}), true
	case *chacha20poly1305.Key:
		return k.KeyBytes().Data(insecuresecretdataaccess.Token{}), true
	case *aesctrhmac.Key:
		p, ok := k.Parameters().(*aesctrhmac.Parameters)
		if !ok || p.IVSizeInBytes() >= 16 {
			return nil, false
		}
		return k.AESKeyBytes().Data(insecuresecretdataaccess.Token{}), true
	}
	return nil, false
}
