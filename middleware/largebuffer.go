package middleware

import (
	"sync"
	"weak"
)

// largeBuffer keeps one buffer of more than maxPooled bytes until the next garbage collection. So a program that sets values
// of 100 MiB one after the other has one buffer for all of them. No buffer is larger than a sealed value under the store's
// WithMaxValueBytes. A largeBuffer is safe for concurrent use.
type largeBuffer struct {
	mu   sync.Mutex
	kept weak.Pointer[bufferHolder]
}

// bufferHolder is the target of the weak pointer. The collector frees it together with the buffer.
type bufferHolder struct{ buf []byte }

// Large buffers are shared by all stores, as scratches are. Buffers for packed values have held plaintext, and are cleared.
var largeSealed, largePacked largeBuffer //nolint:gochecknoglobals // as a pool

// take returns the kept buffer with a length of 0, or nil if its capacity is below n bytes. The buffer is then no
// longer kept.
func (l *largeBuffer) take(n int) []byte {
	l.mu.Lock()
	h := l.kept.Value()
	l.kept = weak.Pointer[bufferHolder]{}
	l.mu.Unlock()
	if h == nil || cap(h.buf) < n {
		return nil
	}
	return h.buf[:0]
}

// keep keeps a buffer, in place of the present one.
func (l *largeBuffer) keep(buf []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = weak.Make(&bufferHolder{buf[:0]})
}
