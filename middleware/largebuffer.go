package middleware

import (
	"sync"
	"weak"
)

// largeBuffer keeps one buffer of more than maxPooled bytes until the next garbage collection. A program that sets values of
// 100 MiB one after the other then has one buffer for them, not one for each Set since the last collection. No buffer is
// larger than a sealed value under the store's WithMaxValueBytes. A largeBuffer is safe for concurrent use.
type largeBuffer struct {
	mu   sync.Mutex
	kept weak.Pointer[bufferHolder]
}

// bufferHolder is what the weak pointer refers to: the buffer goes with it.
type bufferHolder struct{ buf []byte }

// Large buffers are shared by all stores, as scratches are. Buffers for packed values have held plaintext, and are cleared.
var largeSealed, largePacked largeBuffer //nolint:gochecknoglobals // as a pool

// take returns the kept buffer with a length of 0 if it has room for n bytes, and nil otherwise. It is not kept any more.
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
