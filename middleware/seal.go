package middleware

import (
	"context"
	"fmt"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// scratch is what one operation works in. The associated data and the fixed
// widths of numbers are made in it; out holds a sealed value until the backing
// store has done with it.
type scratch struct {
	ad   []byte
	out  []byte
	word [8]byte
}

// Buffers over maxPooled are not kept: one value of 100 MiB must not pin 100
// MiB for each processor.
const maxPooled = 1 << 20

// scratches is shared by all stores: a pool holds nothing that outlives the
// next two garbage collections, and no state.
var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // a pool

func newScratch() *scratch { return scratches.Get().(*scratch) } //nolint:forcetypeassert // only scratches

func (sc *scratch) free() {
	clear(sc.word[:]) // a number in clear
	if cap(sc.out) > maxPooled {
		sc.out = nil
	}
	if cap(sc.ad) > maxPooled {
		sc.ad = nil
	}
	scratches.Put(sc)
}

// bind sets sc.ad to the associated data of the value under key, whose header
// is header.
func (s *Store) bind(sc *scratch, key string, header []byte) {
	sc.ad = append(sc.ad[:0], s.context...)
	sc.ad = wire.AppendName(sc.ad, key)
	sc.ad = append(sc.ad, header...)
}

// seal seals value for key. The result is sc.out if the backing store has done
// with it when Set returns, else a slice of its own.
func (s *Store) seal(ctx context.Context, sc *scratch, key string, value any) ([]byte, error) {
	t, plaintext, err := s.encode(&sc.word, value)
	if err != nil {
		return nil, err
	}
	if len(plaintext) > s.cfg.maxValueBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed: see WithMaxValueBytes", ErrTooLarge, len(plaintext), s.cfg.maxValueBytes)
	}
	header := wire.Header{Kind: wire.CacheValue, Type: t}
	var out []byte
	if s.bytes != nil || s.lends {
		out = sc.out[:0]
	}
	if need := header.Size() + s.overhead() + len(plaintext); cap(out) < need {
		out = make([]byte, 0, need)
	}
	out = header.Append(out)
	n := len(out)
	s.bind(sc, key, out)
	if s.appender != nil {
		out, err = s.appender.SealTo(ctx, out, plaintext, sc.ad)
		if err != nil {
			return nil, fmt.Errorf("middleware: seal: %w", err)
		}
	} else {
		ct, err := s.aead.EncryptWithContext(ctx, plaintext, sc.ad)
		if err != nil {
			return nil, fmt.Errorf("middleware: seal: %w", err)
		}
		out = append(out, ct...)
	}
	if len(out) <= n {
		return nil, fmt.Errorf("middleware: seal: the AEAD returned no ciphertext")
	}
	if s.bytes != nil || s.lends {
		sc.out = out
	}
	return out, nil
}

// open opens what is stored under key. With owned, raw may be written to, and
// the value may share its memory.
func (s *Store) open(ctx context.Context, key string, raw []byte, owned bool) (any, error) {
	header, n, err := wire.Parse(raw)
	if err != nil {
		return nil, err
	}
	if header.Kind != wire.CacheValue {
		return nil, fmt.Errorf("%w: a %s stands where a cache value should", ErrUnauthentic, header.Kind)
	}
	sc := newScratch()
	defer sc.free()
	s.bind(sc, key, raw[:n])
	ct := raw[n:]
	var plaintext []byte
	switch {
	case s.appender != nil && owned:
		plaintext, err = s.appender.OpenTo(ctx, ct[:0], ct, sc.ad)
	case s.appender != nil:
		plaintext, err = s.appender.OpenTo(ctx, nil, ct, sc.ad)
	default:
		plaintext, err = s.aead.DecryptWithContext(ctx, ct, sc.ad)
	}
	if err != nil {
		return nil, fmt.Errorf("middleware: open: %w", s.openError(ctx, err))
	}
	return s.decode(header.Type, plaintext)
}
