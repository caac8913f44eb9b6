// Package keycheck encrypts (seals) and decrypts (opens) the key check of a cache. The key check is one small entry in the
// store, and is not secret. If all processes of an application can open it, these processes use the same encryption keys.
//
// Begin with [New]. It returns a [Check], which seals and opens the key check of one namespace. The namespace is the
// prefix of the names of a cache's entries.
//
// The method Check of middleware.Store writes the key check. After a change of the primary encryption key, the method
// seals the key check again. The method never replaces a key check that does not open. Package migrate opens the key check
// before it reads data. Package audit counts the key checks in Redis.
//
// An attacker with write access to the store can delete or replace the key check. So the key check alone does not prove
// which encryption keys are right.
package keycheck

import (
	"context"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Name is the name of the entry in its namespace. It is never hidden. Applications cannot use it as a key.
const Name = names.KeyCheck

// MaxBytes bounds an entry that is read, because an attacker may have planted a huge one. The wrapped data key is its largest part.
const MaxBytes = 64 << 10

// content is the plaintext: the version of the entry.
const content = "\x01"

// StoredName returns the name of the entry of a namespace, as the backing store knows it.
func StoredName(namespace string) string {
	if namespace == "" {
		return Name
	}
	return namespace + ":" + Name
}

// Namespace returns the namespace whose entry has this stored name. It reports false if the name is not one of an entry.
func Namespace(stored string) (string, bool) {
	if stored == Name {
		return "", true
	}
	ns, ok := strings.CutSuffix(stored, ":"+Name)
	return ns, ok && wire.CheckNamespace(ns) == nil
}

// A Check seals and opens the entry of one namespace under one AEAD.
type Check struct{ box *box.Box }

// New returns a Check. An empty namespace means none.
func New(a tink.AEADWithContext, namespace string) (*Check, error) {
	b, err := box.New(a, wire.KeyCheck, namespace)
	if err != nil {
		return nil, err
	}
	b.Prove() // all processes of the namespace would report other keys because of an entry that does not open
	return &Check{b}, nil
}

// Seal returns a new entry.
func (c *Check) Seal(ctx context.Context) ([]byte, error) {
	return c.box.Seal(ctx, nil, wire.Header{Type: wire.Bytes}, []byte(content), Name)
}

// Open returns nil if the AEAD opens the entry. It does not change the entry. box.Refused(err) reports that the entry is
// under other keys. Other errors: the entry is plaintext (wire.ErrNotSealed), it was written by a later release
// (wire.ErrUnsupportedFormat), or the key service did not answer (aead.ErrKeyServiceUnavailable).
func (c *Check) Open(ctx context.Context, stored []byte) error {
	h, n, err := c.box.Parse(stored)
	if err != nil {
		return err
	}
	if h.Type != wire.Bytes || h.Flags != 0 {
		return fmt.Errorf("%w: %s has an unknown value type or flags (update sealcache)", wire.ErrUnsupportedFormat, Name)
	}
	plaintext, err := c.box.Open(ctx, stored, n, false, Name)
	if err != nil {
		return err
	}
	if string(plaintext) != content {
		return fmt.Errorf("%w: %s has unknown content (update sealcache)", wire.ErrUnsupportedFormat, Name)
	}
	return nil
}

// FromEnvelope reports whether an entry that opens is under a data key. Such an entry may have another KEK or wrap context than
// fresh ones without being Outdated.
func FromEnvelope(stored []byte) bool {
	return len(stored) >= wire.HeaderSize && wire.KeyOf(stored[wire.HeaderSize:]).Envelope()
}

// Outdated reports whether an entry that opens names another key than fresh, an entry of this moment. If keys show
// neither an id nor a version, entries are never outdated.
func Outdated(stored, fresh []byte) bool {
	if len(stored) < wire.HeaderSize || len(fresh) < wire.HeaderSize {
		return false
	}
	was, is := wire.KeyOf(stored[wire.HeaderSize:]), wire.KeyOf(fresh[wire.HeaderSize:])
	return was.Envelope() != is.Envelope() || was.HasID != is.HasID || was.ID != is.ID || was.Version != is.Version || was.Passphrase() != is.Passphrase()
}
