package reload

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// maxSightings bounds the refused values that a Reloader remembers, at about a hundred bytes each.
const maxSightings = 1 << 13

// A Sighting is a refused value and when the Reloader was first told of it.
type Sighting struct {
	id    [sha256.Size]byte
	Since time.Time // for Run
}

// sightings remembers when values were first refused. The zero value is ready.
type sightings struct {
	mu    sync.Mutex
	index map[[sha256.Size]byte]int // of all
	all   []Sighting
}

// Refused returns when the value that is stored under name was first refused. The caller has read the value before, so
// each reload that began since then decides about it. Without this memory, only the value whose caller starts a reload
// could be decided. A store with many refused values would need ten seconds for each.
//
// A sighting stays when its value was decided, because other callers may be about to decide the same value. Another value
// under the name is another sighting. Of too many, any may be forgotten. The oldest would be the wrong choice: callers that
// go through more values than that, one after the other, would never find one.
func (r *Reloader) Refused(name string, value []byte) Sighting {
	if r == nil {
		return Sighting{}
	}
	s := Sighting{idOf(name, value), r.Now()}
	m := &r.sightings
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.index[s.id]; ok {
		return m.all[i]
	}
	if m.index == nil {
		m.index = make(map[[sha256.Size]byte]int)
	}
	if len(m.all) < maxSightings {
		m.all = append(m.all, Sighting{})
		m.put(len(m.all)-1, s)
		return s
	}
	var random [2]byte
	_, _ = rand.Read(random[:])                                 // never fails
	i := int(binary.BigEndian.Uint16(random[:])) % maxSightings // a power of two below 1<<16
	delete(m.index, m.all[i].id)
	m.put(i, s)
	return s
}

// Opened forgets a value that is not refused any more.
func (r *Reloader) Opened(s Sighting) {
	if r == nil {
		return
	}
	m := &r.sightings
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.index[s.id]
	if !ok {
		return
	}
	delete(m.index, s.id)
	last := len(m.all) - 1
	if i != last {
		m.put(i, m.all[last])
	}
	m.all = m.all[:last]
}

func (m *sightings) put(i int, s Sighting) {
	m.all[i], m.index[s.id] = s, i
}

func idOf(name string, value []byte) (id [sha256.Size]byte) {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(name))))
	h.Write([]byte(name))
	h.Write(value)
	h.Sum(id[:0])
	return id
}
