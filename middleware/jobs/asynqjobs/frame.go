package asynqjobs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// A frame is the plaintext of a task that has more to seal than a payload. FORMAT.md specifies its bytes:
//
//	flags(1) [name] [headers] [tag] [member] [trace] [tick] payload
//
// A field has its length before it, 4 bytes big endian. The payload is the rest. A task that has only a payload is sealed
// without a frame: see bare.
type frame struct {
	name    string            // the real type name, if the stored one is a pseudonym
	headers map[string]string // the application's
	unique  bool              // the stored payload is a tag, and this is its token:
	tag     [wire.TagSize]byte
	held    *member           // the member of a group that the task holds: there is nothing to run
	trace   map[string]string // W3C trace context: traceparent, tracestate
	tick    *Tick             // the task is a tick of this schedule
	payload []byte
}

// A member is a task of a group, as it was found.
type member struct {
	typename string
	payload  []byte
	headers  map[string]string
}

const (
	hasName    = 1 << 0
	hasHeaders = 1 << 1
	isUnique   = 1 << 2
	hasMember  = 1 << 3
	hasTrace   = 1 << 4
	hasTick    = 1 << 5
	knownFlags = hasName | hasHeaders | isUnique | hasMember | hasTrace | hasTick
)

// flags returns one flag for each part that the frame holds besides the payload.
func (f *frame) flags() byte {
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
	if f.held != nil {
		flags |= hasMember
	}
	if len(f.trace) > 0 {
		flags |= hasTrace
	}
	if f.tick != nil {
		flags |= hasTick
	}
	return flags
}

// bare reports whether there is nothing but the payload.
func (f *frame) bare() bool { return f.flags() == 0 }

func (f *frame) append(dst []byte) []byte {
	dst = append(dst, f.flags())
	if f.name != "" {
		dst = appendField(dst, f.name)
	}
	if len(f.headers) > 0 {
		dst = appendHeaders(dst, f.headers)
	}
	if f.unique {
		dst = append(dst, f.tag[:]...)
	}
	if m := f.held; m != nil {
		dst = appendField(dst, m.typename)
		dst = appendHeaders(dst, m.headers)
		dst = appendField(dst, string(m.payload))
	}
	if len(f.trace) > 0 {
		dst = appendHeaders(dst, f.trace)
	}
	if f.tick != nil {
		dst = binary.BigEndian.AppendUint64(dst, uint64(f.tick.Time.UnixMilli()))
		dst = appendField(dst, f.tick.Name)
	}
	return append(dst, f.payload...)
}

// size is an upper bound of what append adds.
func (f *frame) size() int {
	n := 1 + lengthSize + len(f.name) + headersSize(f.headers) + wire.TagSize + headersSize(f.trace) + len(f.payload)
	if f.tick != nil {
		n += tickSize + lengthSize + len(f.tick.Name)
	}
	if m := f.held; m != nil {
		n += 2*lengthSize + len(m.typename) + headersSize(m.headers) + len(m.payload)
	}
	return n
}

// parseFrame reads a frame. It shares memory with b, and accepts only what append writes.
func parseFrame(b []byte) (*frame, error) {
	r := &reader{b: b}
	flags := r.byte()
	if flags&^knownFlags != 0 {
		return nil, fmt.Errorf("%w: the sealed task has unknown flags %#02x (update sealcache)", jobs.ErrUnsupportedFormat, flags&^knownFlags)
	}
	f := &frame{unique: flags&isUnique != 0}
	if flags&hasName != 0 {
		if f.name = string(r.field()); f.name == "" {
			r.bad = true
		}
	}
	if flags&hasHeaders != 0 {
		f.headers = r.someHeaders()
	}
	if f.unique {
		copy(f.tag[:], r.take(wire.TagSize))
	}
	if flags&hasMember != 0 {
		f.held = &member{typename: string(r.field()), headers: r.headers(), payload: r.field()}
	}
	if flags&hasTrace != 0 {
		f.trace = r.someHeaders()
	}
	if flags&hasTick != 0 {
		f.tick = r.tick()
	}
	if r.bad {
		return nil, fmt.Errorf("%w: the content of the sealed task is incomplete or malformed (delete the task)", jobs.ErrUnsupportedFormat)
	}
	if f.payload = r.b; len(f.payload) == 0 {
		f.payload = nil // as asynq hands over an empty payload
	}
	return f, nil
}

const (
	lengthSize = 4
	tickSize   = 8 // Unix milliseconds
)

func appendField(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// appendHeaders writes headers in the order of their names, so that equal headers are equal bytes.
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

// A reader parses a frame. After an error it returns zero values.
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

func (r *reader) field() []byte { return r.take(r.count(1)) }

// count reads a number of items, each of which has at least size bytes. It fails if so many cannot follow.
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

// headers reads headers in the order of their names, each once.
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

// someHeaders reads at least one header.
func (r *reader) someHeaders() map[string]string {
	h := r.headers()
	if len(h) == 0 {
		r.bad = true
	}
	return h
}

func (r *reader) tick() *Tick {
	var t Tick
	if b := r.take(tickSize); b != nil {
		t.Time = time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	}
	if t.Name = string(r.field()); t.Name == "" {
		r.bad = true
	}
	return &t
}
