package migrate

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// present identifies the key under which an AEAD seals now, as far as ciphertexts show it. Ciphertexts of a
// keyring show a key id, those of an envelope the id of its key-encryption key. A key service shows no id; then
// the data keys of this run identify the key.
type present struct {
	wire.Key

	mu       sync.Mutex
	dataKeys map[string]bool // fingerprints
	last     []byte          // the wrapped data key that was noted last
}

// maxDataKeys bounds the data keys in a checkpoint. A run that makes more seals some values twice.
const maxDataKeys = 1024

func presentOf(ctx context.Context, b *box.Box) (*present, error) {
	ct, err := b.Probe(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: the test of the encryption keys failed: %w", err)
	}
	p := &present{Key: wire.KeyOf(ct), dataKeys: make(map[string]bool)}
	p.note(ct)
	return p, nil
}

// note remembers the data key of a ciphertext that was just made, if its key has no id.
func (p *present) note(ct []byte) {
	if p.HasID || !p.Envelope() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := wire.KeyOf(ct)
	if !k.Envelope() || bytes.Equal(k.Wrapped, p.last) || len(p.dataKeys) >= maxDataKeys {
		return
	}
	p.last = bytes.Clone(k.Wrapped)
	p.dataKeys[k.DataKey()] = true
}

// names reports whether a ciphertext names the key that seals now. Another keyset may have a key of the same id, so only
// opening proves it.
func (p *present) names(ct []byte) bool {
	k := wire.KeyOf(ct)
	switch {
	case k.Envelope() != p.Envelope() || k.HasID != p.HasID:
		return false
	case p.HasID:
		return k.ID == p.ID
	case !p.Envelope():
		return false // a key without a prefix: its ciphertexts look like any others
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.dataKeys[k.DataKey()]
	}
}

// differs reports whether another key seals now than when p was made.
func (p *present) differs(now *present) bool {
	return now.Envelope() != p.Envelope() || now.HasID != p.HasID || now.ID != p.ID
}
