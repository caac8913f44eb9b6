package middleware

import (
	"context"
	"fmt"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// scratch is the memory of one operation. It holds the fixed width of a number,
// and a sealed value until the backing store has finished with it.
type scratch struct {
	out  []byte
	word [8]byte
}

// maxPooled bounds the buffers that are kept. A value of 100 MiB must not hold
// 100 MiB for each processor.
const maxPooled = 1 << 20

// scratches is shared by all stores. A pool has no state, and its content
// disappears within two garbage collections.
var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // a pool

func newScratch() *scratch { return scratches.Get().(*scratch) } //nolint:forcetypeassert // only scratches

func (sc *scratch) free() {
	clear(sc.word[:]) // a plaintext number
	if cap(sc.out) > maxPooled {
		sc.out = nil
	}
	scratches.Put(sc)
}

// seal seals value for key. The result is sc.out if the backing store has
// finished with it when Set returns, else a slice of its own.
func (s *Store) seal(ctx context.Context, sc *scratch, key string, value any) ([]byte, error) {
	t, plaintext, err := s.encode(&sc.word, value)
	if err != nil {
		return nil, err
	}
	if len(plaintext) > s.cfg.maxValueBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed: see WithMaxValueBytes", ErrTooLarge, len(plaintext), s.cfg.maxValueBytes)
	}
	reuse := s.bytes != nil || s.lends
	var out []byte
	if reuse {
		out = sc.out[:0]
	}
	out, err = s.box.Seal(ctx, out, wire.Header{Type: t}, plaintext, key)
	if err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	if reuse {
		sc.out = out
	}
	return out, nil
}

// open returns the value of stored, which was read under key. If owned, stored
// is overwritten and the value may share its memory.
func (s *Store) open(ctx context.Context, key string, stored []byte, owned bool) (any, error) {
	header, n, err := s.box.Parse(stored)
	if err != nil {
		return nil, err
	}
	plaintext, err := s.box.Open(ctx, stored, n, owned, key)
	if err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	return s.decode(header.Type, plaintext)
}
