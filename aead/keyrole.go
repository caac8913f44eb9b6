package aead

import "github.com/tink-crypto/tink-go/v2/tink"

// roleKnower is a KEK whose keys have ids.
type roleKnower interface {
	KeyRole(id uint32) (known, primary bool)
}

// KeyRole reports whether the keyset in service has an enabled key with this id, and whether it is the primary key. It calls no
// service.
func (k *Keyring) KeyRole(id uint32) (known, primary bool) {
	r := k.keyset.Load()
	if r == nil {
		return false, false
	}
	for _, key := range r.keys {
		if key.id == id && key.prim != nil {
			return true, key == r.primary
		}
	}
	return false, false
}

// KeyRole is Keyring.KeyRole of the KEK that wraps the data keys. A KEK in a key service has no key ids, so the
// results are false.
func (e *Envelope) KeyRole(id uint32) (known, primary bool) { return roleIn(e.kek, id) }

// KeyRole is Keyring.KeyRole over all KEKs of the set. The primary key is that of the KEK that wraps.
func (s *KEKSet) KeyRole(id uint32) (known, primary bool) {
	for i, m := range s.members {
		if known, primary := roleIn(m.kek, id); known {
			return true, primary && i == 0
		}
	}
	return false, false
}

func roleIn(kek tink.AEADWithContext, id uint32) (known, primary bool) {
	if k, ok := kek.(roleKnower); ok {
		return k.KeyRole(id)
	}
	return false, false
}
