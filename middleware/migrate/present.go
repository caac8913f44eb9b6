package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// present is the key under which an AEAD seals now, as far as its ciphertexts show. A keyring shows its key id, an
// envelope that of its key-encryption key. A key service shows none; the data keys of this run stand for it.
type present struct {
	wire.Ciphertext

	mu       sync.Mutex
	dataKeys map[string]bool
	last     []byte // the wrapped data key that was noted last
}

// maxDataKeys bounds what a checkpoint holds of them. A run that makes more seals some values twice.
const maxDataKeys = 1024

func presentOf(ctx context.Context, s *cachevalue.Sealer) (*present, error) {
	const name = "sealcache probe"
	var ad []byte
	probe := []byte("sealcache probe: this must not be found in what is sealed")
	sealed, err := s.Seal(ctx, nil, &ad, name, wire.Bytes, probe)
	if err != nil {
		return nil, fmt.Errorf("migrate: probe: %w", err)
	}
	if bytes.Contains(sealed, probe) {
		return nil, errors.New("migrate: probe: the AEAD does not encrypt: the sealed value contains its plaintext")
	}
	opened, err := s.Open(ctx, &ad, name, sealed, wire.HeaderSize)
	if err == nil && !bytes.Equal(opened, probe) {
		err = errors.New("it opened as something else")
	}
	if err != nil {
		return nil, fmt.Errorf("migrate: probe: the sealed value does not open: %w", err)
	}
	p := &present{Ciphertext: wire.Peek(sealed[wire.HeaderSize:]), dataKeys: make(map[string]bool)}
	p.note(sealed[wire.HeaderSize:])
	return p, nil
}

// note remembers the data key of a ciphertext that was just made, if its key has no id.
func (p *present) note(ct []byte) {
	if p.HasKeyID || !p.Envelope {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) > 0 && len(ct) > len(p.last) && bytes.Equal(ct[:len(p.last)], p.last) {
		return
	}
	c := wire.Peek(ct)
	if !c.Envelope || len(p.dataKeys) >= maxDataKeys {
		return
	}
	p.last = bytes.Clone(ct[:4+c.WrappedBytes])
	p.dataKeys[c.DataKey] = true
}

// sealed reports whether a ciphertext names the key that seals now. Another keyset may have a key of the same id, so only
// opening proves it.
func (p *present) sealed(ct []byte) bool {
	c := wire.Peek(ct)
	switch {
	case c.Envelope != p.Envelope || c.HasKeyID != p.HasKeyID:
		return false
	case p.HasKeyID:
		return c.KeyID == p.KeyID
	case !p.Envelope:
		return false // a key without a prefix: its ciphertexts look like any others
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.dataKeys[c.DataKey]
	}
}
