package cachevalue

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Sealer seals and opens cache values of one namespace, to the byte as a middleware.Store of that namespace does.
type Sealer struct {
	aead     tink.AEADWithContext
	appender aead.AppendAEAD // aead, or nil
	overhead int
	context  []byte // the associated data up to the key
}

// NewSealer returns a Sealer for values that are bound to a namespace.
func NewSealer(a tink.AEADWithContext, namespace string) *Sealer {
	s := &Sealer{aead: a, overhead: 256, context: wire.AppendContext(nil, wire.CacheValue, namespace)}
	s.appender, _ = a.(aead.AppendAEAD)
	if sized, ok := a.(interface{ Overhead() int }); ok {
		s.overhead = sized.Overhead() + 8 // a byte or two more when the data key changes
	}
	return s
}

// Size bounds what Seal appends for a plaintext of n bytes.
func (s *Sealer) Size(n int) int { return wire.HeaderSize + s.overhead + n }

func (s *Sealer) bind(ad []byte, key string, header []byte) []byte {
	ad = append(ad[:0], s.context...)
	ad = wire.AppendName(ad, key)
	return append(ad, header...)
}

// Seal appends a sealed value to dst. ad is memory that is reused.
func (s *Sealer) Seal(ctx context.Context, dst []byte, ad *[]byte, key string, t wire.Type, plaintext []byte) ([]byte, error) {
	n := len(dst)
	dst = wire.Header{Kind: wire.CacheValue, Type: t}.Append(dst)
	*ad = s.bind(*ad, key, dst[n:])
	header := len(dst)
	if s.appender != nil {
		out, err := s.appender.SealTo(ctx, dst, plaintext, *ad)
		if err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
		dst = out
	} else {
		ct, err := s.aead.EncryptWithContext(ctx, plaintext, *ad)
		if err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
		dst = append(dst, ct...)
	}
	if len(dst) == header {
		return nil, errors.New("seal: the AEAD returned no ciphertext")
	}
	return dst, nil
}

// Open opens a cache value whose header has n bytes. It does not change stored.
func (s *Sealer) Open(ctx context.Context, ad *[]byte, key string, stored []byte, n int) ([]byte, error) {
	*ad = s.bind(*ad, key, stored[:n])
	if s.appender != nil {
		return s.appender.OpenTo(ctx, nil, stored[n:], *ad)
	}
	plaintext, err := s.aead.DecryptWithContext(ctx, stored[n:], *ad)
	switch {
	case err == nil || Refused(err) || errors.Is(err, aead.ErrKeyServiceUnavailable):
		return plaintext, err
	case ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", aead.ErrKeyServiceUnavailable, err)
	default: // an AEAD that is not of package aead does not say more
		return nil, fmt.Errorf("%w: %w", aead.ErrUnauthentic, err)
	}
}

// Refused reports whether an error is a definite answer about a value: the key does not open it.
func Refused(err error) bool {
	return (errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey)) &&
		!errors.Is(err, aead.ErrKeyServiceUnavailable)
}

// OpenAny opens a value under any of the keys and returns the index of the key that opened it. If last is true, it tries
// the last key first: asking a key service for a value that it will refuse costs a call.
func OpenAny(ctx context.Context, ad *[]byte, by []*Sealer, last bool, key string, stored []byte, n int) (plaintext []byte, index int, err error) {
	var worst error
	for i := range by {
		if last {
			i = len(by) - 1 - i
		}
		plaintext, err := by[i].Open(ctx, ad, key, stored, n)
		if err == nil {
			return plaintext, i, nil
		}
		switch {
		case worst == nil, !Refused(err): // an outage is no answer about the value
			worst = err
		case Refused(worst) && errors.Is(worst, aead.ErrUnknownKey) && errors.Is(err, aead.ErrUnauthentic):
			worst = err
		}
	}
	return nil, -1, worst
}

// Header reads the header of a sealed cache value. It is not ok for anything else, or if this release does not know it.
func Header(b []byte) (h wire.Header, n int, ok bool) {
	h, n, err := wire.Parse(b)
	return h, n, err == nil && h.Kind == wire.CacheValue
}

// IsNil reports whether a is nil or a nil pointer.
func IsNil(a tink.AEADWithContext) bool {
	if a == nil {
		return true
	}
	v := reflect.ValueOf(a)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
