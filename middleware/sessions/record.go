package sessions

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"
)

// A record is the sealed content of a session: a version, the absolute end in Unix milliseconds, and the session as
// the framework encoded it. The idle end is the sealed expiry of the entry. FORMAT.md, "Sessions", specifies the
// record.
type record struct {
	absolute time.Time
	data     []byte
}

const (
	recordVersion = 1
	recordHeader  = 1 + 8
	newestVersion = 15 // that a newer release may use: text begins with higher bytes
)

// appendTo appends the record to b.
func (r record) appendTo(b []byte) []byte {
	b = append(slices.Grow(b, recordHeader+len(r.data)), recordVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(max(r.absolute.UnixMilli(), 0)))
	return append(b, r.data...)
}

// memory holds a record until the Store has sealed it.
type memory struct{ bytes []byte }

// memories is shared by all stores. A pool has no state.
var memories = sync.Pool{New: func() any { return new(memory) }} //nolint:gochecknoglobals // a pool

// maxPooled bounds the memory that is kept. Sessions are small.
const maxPooled = 64 << 10

func recordMemory() *memory { return memories.Get().(*memory) } //nolint:forcetypeassert // only memories

// free keeps the memory for the next record. The middleware does not keep the value of a Set.
func (m *memory) free() {
	clear(m.bytes)
	if m.bytes = m.bytes[:0]; cap(m.bytes) <= maxPooled {
		memories.Put(m)
	}
}

// perhapsNewer reports whether b may be a record of a newer release.
func perhapsNewer(b []byte) bool {
	return len(b) >= recordHeader && b[0] > recordVersion && b[0] <= newestVersion
}

// decode returns the record in b, whose memory it shares. It reports whether there is one of this version.
func decode(b []byte) (record, bool) {
	if len(b) < recordHeader || b[0] != recordVersion {
		return record{}, false
	}
	ms := binary.BigEndian.Uint64(b[1:])
	if ms > math.MaxInt64 { // no writer has such an end
		return record{}, false
	}
	return record{time.UnixMilli(int64(ms)), b[recordHeader:]}, true
}
