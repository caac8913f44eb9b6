package aead

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

const (
	// maxKEKSetOpened bounds for how many wrapped keys it is remembered which member opens them.
	maxKEKSetOpened = 16384
	// maxKEKSetRefused bounds how many refusals are remembered.
	maxKEKSetRefused = maxRefusals * 2
)

// kekSetMemory remembers which member of a KEKSet opens which wrapped key, and which members have just refused it.
type kekSetMemory struct {
	mu      sync.Mutex
	opened  recent[kekSetKey, int]
	forms   map[form]int // the member that last opened a wrapped key of this form
	refused recent[kekSetRefusal, refusal]
}

// kekSetKey names a wrapped key and the contexts that are tried.
type kekSetKey [sha256.Size]byte

type kekSetRefusal struct {
	name   kekSetKey
	member int
}

func kekSetName(wrapped []byte, contexts ...[]byte) kekSetKey {
	h := sha256.New()
	for _, part := range append([][]byte{wrapped}, contexts...) {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // never fails
		_, _ = h.Write(part)
	}
	return kekSetKey(h.Sum(nil))
}

// kekSetForm is the form of a wrapped key: wrapped keys of one KEK are alike in length and start.
func kekSetForm(wrapped []byte) form {
	f := form{length: len(wrapped)}
	copy(f.start[:], wrapped)
	return f
}

// remember notes the member that opens a wrapped key.
func (m *kekSetMemory) remember(name kekSetKey, wrapped []byte, member int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forms == nil {
		m.forms = make(map[form]int)
	}
	f := kekSetForm(wrapped)
	if _, ok := m.forms[f]; ok || len(m.forms) < maxForms {
		m.forms[f] = member
	}
	m.opened.set(name, member, maxKEKSetOpened)
}

// recall returns the member that opened a wrapped key, and the likely member, which opened similar keys. Either may be -1.
// refused holds the remembered refusals by member.
func (m *kekSetMemory) recall(name kekSetKey, wrapped []byte, now int64) (first, likely int, refused [maxKEKSet]error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, likely = -1, -1
	if i, ok := m.opened.m[name]; ok {
		first = i
	}
	if i, ok := m.forms[kekSetForm(wrapped)]; ok {
		likely = i
	}
	if len(m.refused.m) > 0 {
		for i := range refused {
			if x, ok := m.refused.m[kekSetRefusal{name, i}]; ok && now < x.until {
				refused[i] = x.err
			}
		}
	}
	return first, likely, refused
}

// refuse notes a member's refusal for as long as an Envelope remembers one.
func (m *kekSetMemory) refuse(name kekSetKey, member int, err error, now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opened.m[name] == member {
		delete(m.opened.m, name) // its place in the order stays, so that the order is bounded, too
	}
	m.refused.set(kekSetRefusal{name, member}, refusal{err, now + int64(refusalMemory)}, maxKEKSetRefused)
}

// forget clears the memory after a member has reloaded.
func (m *kekSetMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened = recent[kekSetKey, int]{}
	m.forms = nil
	m.refused = recent[kekSetRefusal, refusal]{}
}
