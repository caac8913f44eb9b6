package asynqjobs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// A frame is what is sealed of a task: its payload and whatever else of it must
// not be read. FORMAT.md has its bytes:
//
//	flags(1) [name] [headers] [tag] [members] [lost] payload
//
// What a flag announces has its length before it, 4 bytes big endian, unless that
// is fixed; the payload is the rest. Where there is nothing but a payload there is no
// frame: see bare.
type frame struct {
	name    string            // the real type name, if the task's is a pseudonym
	headers map[string]string // of the application
	unique  bool              // a tag stands in the task's payload:
	tag     [wire.TagSize]byte
	refused []member // members of the group that did not open
	lost    uint32   // how many more there were that are kept nowhere
	nothing bool     // there is nothing to run
	payload []byte
}

// A member is a task of a group as it was found.
type member struct {
	typename string
	payload  []byte
	headers  map[string]string
}

const (
	hasName    = 1 << 0
	hasHeaders = 1 << 1
	isUnique   = 1 << 2
	hasRefused = 1 << 3
	hasNothing = 1 << 4
	hasLost    = 1 << 5
	knownFlags = hasName | hasHeaders | isUnique | hasRefused | hasNothing | hasLost
)

func (f *frame) append(dst []byte) []byte {
	var flags byte
	if f.name != "" {
		flags |= hasName
	}
	if len(f.headers) > 0 {
		flags |= hasHeaders
	}
	if f.unique {
		flags |= isUnique
	}
	if len(f.refused) > 0 {
		flags |= hasRefused
	}
	if f.nothing {
		flags |= hasNothing
	}
	if f.lost > 0 {
		flags |= hasLost
	}
	dst = append(dst, flags)
	if flags&hasName != 0 {
		dst = appendField(dst, f.name)
	}
	if flags&hasHeaders != 0 {
		dst = appendHeaders(dst, f.headers)
	}
	if f.unique {
		dst = append(dst, f.tag[:]...)
	}
	if flags&hasRefused != 0 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.refused)))
		for _, m := range f.refused {
			dst = appendField(dst, m.typename)
			dst = appendHeaders(dst, m.headers)
			dst = appendField(dst, string(m.payload))
		}
	}
	if flags&hasLost != 0 {
		dst = binary.BigEndian.AppendUint32(dst, f.lost)
	}
	return append(dst, f.payload...)
}

// bare tells whether there is nothing but the payload.
func (f *frame) bare() bool {
	return f.name == "" && len(f.headers) == 0 && !f.unique && len(f.refused) == 0 && f.lost == 0 && !f.nothing
}

// size bounds what append needs.
func (f *frame) size() int {
	n := 1 + lengthSize + len(f.name) + headersSize(f.headers) + wire.TagSize + 2*lengthSize + len(f.payload)
	for i := range f.refused {
		n += f.refused[i].size()
	}
	return n
}

func (m *member) size() int {
	return 2*lengthSize + len(m.typename) + headersSize(m.headers) + len(m.payload)
}

// parseFrame reads a frame. It shares memory with b.
func parseFrame(b []byte) (*frame, error) {
	r := &reader{b: b}
	flags := r.byte()
	if flags&^knownFlags != 0 {
		return nil, fmt.Errorf("%w: unknown flags %#02x in a sealed task: read it with a newer release", jobs.ErrUnsupportedFormat, flags&^knownFlags)
	}
	f := &frame{unique: flags&isUnique != 0, nothing: flags&hasNothing != 0}
	if flags&hasName != 0 {
		if f.name = string(r.field()); f.name == "" {
			r.bad = true
		}
	}
	if flags&hasHeaders != 0 {
		if f.headers = r.headers(); len(f.headers) == 0 {
			r.bad = true
		}
	}
	if f.unique {
		copy(f.tag[:], r.take(wire.TagSize))
	}
	if flags&hasRefused != 0 {
		n := r.count(3 * lengthSize)
		for range n {
			f.refused = append(f.refused, member{typename: string(r.field()), headers: r.headers(), payload: r.field()})
		}
		if n == 0 {
			r.bad = true
		}
	}
	if flags&hasLost != 0 {
		if b := r.take(lengthSize); b != nil {
			f.lost = binary.BigEndian.Uint32(b)
		}
		if f.lost == 0 {
			r.bad = true
		}
	}
	if r.bad {
		return nil, fmt.Errorf("%w: a sealed task that is cut off", jobs.ErrUnsupportedFormat)
	}
	if f.payload = r.b; len(f.payload) == 0 {
		f.payload = nil // as asynq hands over an empty one
	}
	return f, nil
}

const lengthSize = 4

func appendField(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// appendHeaders writes headers in the order of their names, so that equal ones
// are equal bytes.
func appendHeaders(dst []byte, h map[string]string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(h)))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		dst = appendField(dst, name)
		dst = appendField(dst, h[name])
	}
	return dst
}

func headersSize(h map[string]string) int {
	n := lengthSize
	for name, value := range h {
		n += 2*lengthSize + len(name) + len(value)
	}
	return n
}

// reader takes a frame apart. Once bad, it gives nothing any more.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	head := r.b[:n:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) field() []byte { return r.take(r.length()) }

func (r *reader) length() int {
	b := r.take(lengthSize)
	if b == nil {
		return 0
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// count reads how many items follow, each of which has at least size bytes.
func (r *reader) count(size int) int {
	b := r.take(lengthSize)
	if b == nil {
		return 0
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// headers reads headers in the order of their names, none twice.
func (r *reader) headers() map[string]string {
	n := r.count(2 * lengthSize)
	if n == 0 {
		return nil
	}
	h := make(map[string]string, n)
	last := ""
	for i := range n {
		name, value := string(r.field()), string(r.field())
		if i > 0 && name <= last {
			r.bad = true
		}
		last = name
		h[name] = value
	}
	return h
}
