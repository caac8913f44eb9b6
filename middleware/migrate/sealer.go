package migrate

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// sealer seals and opens cache values of one namespace, to the byte as a middleware.Store of that namespace does.
type sealer struct {
	aead     tink.AEADWithContext
	appender aead.AppendAEAD // aead, or nil
	overhead int
	context  []byte // the associated data up to the key
}

func newSealer(a tink.AEADWithContext, namespace string) *sealer {
	s := &sealer{aead: a, overhead: 256, context: wire.AppendContext(nil, wire.CacheValue, namespace)}
	s.appender, _ = a.(aead.AppendAEAD)
	if sized, ok := a.(interface{ Overhead() int }); ok {
		s.overhead = sized.Overhead() + 8 // a byte or two more when the data key changes
	}
	return s
}

// size bounds what seal adds to dst.
func (s *sealer) size(plaintext int) int { return wire.HeaderSize + s.overhead + plaintext }

func (s *sealer) bind(ad []byte, key string, header []byte) []byte {
	ad = append(ad[:0], s.context...)
	ad = wire.AppendName(ad, key)
	return append(ad, header...)
}

// seal appends a sealed value to dst. ad is memory to work in.
func (s *sealer) seal(ctx context.Context, dst []byte, ad *[]byte, key string, t wire.Type, plaintext []byte) ([]byte, error) {
	n := len(dst)
	dst = wire.Header{Kind: wire.CacheValue, Type: t}.Append(dst)
	*ad = s.bind(*ad, key, dst[n:])
	header := len(dst)
	if s.appender != nil {
		out, err := s.appender.SealTo(ctx, dst, plaintext, *ad)
		if err != nil {
			return nil, fmt.Errorf("migrate: seal: %w", err)
		}
		dst = out
	} else {
		ct, err := s.aead.EncryptWithContext(ctx, plaintext, *ad)
		if err != nil {
			return nil, fmt.Errorf("migrate: seal: %w", err)
		}
		dst = append(dst, ct...)
	}
	if len(dst) == header {
		return nil, errors.New("migrate: seal: the AEAD returned no ciphertext")
	}
	return dst, nil
}

// open opens a cache value with the header h of n bytes. It leaves stored as it is.
func (s *sealer) open(ctx context.Context, ad *[]byte, key string, stored []byte, n int) ([]byte, error) {
	*ad = s.bind(*ad, key, stored[:n])
	if s.appender != nil {
		return s.appender.OpenTo(ctx, nil, stored[n:], *ad)
	}
	plaintext, err := s.aead.DecryptWithContext(ctx, stored[n:], *ad)
	switch {
	case err == nil || refused(err) || errors.Is(err, aead.ErrKeyServiceUnavailable):
		return plaintext, err
	case ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", aead.ErrKeyServiceUnavailable, err)
	default: // an AEAD that is not of package aead does not say more
		return nil, fmt.Errorf("%w: %w", aead.ErrUnauthentic, err)
	}
}

// refused tells whether an error is a definite no about a value.
func refused(err error) bool {
	return (errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey)) &&
		!errors.Is(err, aead.ErrKeyServiceUnavailable)
}

// present is under which key an AEAD seals now, as far as its ciphertexts show: a keyring by its key id, an envelope by
// that of its key-encryption key. A key service shows none; there it is the data keys that this run has sealed under.
type present struct {
	wire.Ciphertext

	mu       sync.Mutex
	dataKeys map[string]bool
	last     []byte // the wrapped data key that was noted last
}

// maxDataKeys bounds what a checkpoint holds of them. A run that makes more seals some values twice.
const maxDataKeys = 1024

func presentOf(ctx context.Context, s *sealer) (*present, error) {
	var ad []byte
	probe := []byte("sealcache probe: this must not be found in what is sealed")
	sealed, err := s.seal(ctx, nil, &ad, "sealcache probe", wire.Bytes, probe)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(sealed, probe) {
		return nil, errors.New("migrate: the AEAD does not encrypt: a sealed value holds its plaintext")
	}
	opened, err := s.open(ctx, &ad, "sealcache probe", sealed, wire.HeaderSize)
	if err != nil || !bytes.Equal(opened, probe) {
		return nil, fmt.Errorf("migrate: what was sealed does not open: %w", err)
	}
	p := &present{Ciphertext: wire.Peek(sealed[wire.HeaderSize:]), dataKeys: make(map[string]bool)}
	p.note(sealed[wire.HeaderSize:])
	return p, nil
}

// note remembers the data key of a ciphertext that was just made, where keys have no ids.
func (p *present) note(ct []byte) {
	if p.HasKeyID || !p.Envelope {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) > 0 && len(ct) > len(p.last) && bytes.Equal(ct[:len(p.last)], p.last) {
		return
	}
	c := wire.Peek(ct)
	if !c.Envelope || len(p.dataKeys) >= maxDataKeys {
		return
	}
	p.last = bytes.Clone(ct[:4+c.WrappedBytes])
	p.dataKeys[c.DataKey] = true
}

// is tells whether a ciphertext was sealed under the key that seals now.
func (p *present) is(ct []byte) bool {
	c := wire.Peek(ct)
	switch {
	case c.Envelope != p.Envelope || c.HasKeyID != p.HasKeyID:
		return false
	case p.HasKeyID:
		return c.KeyID == p.KeyID
	case !p.Envelope:
		return false // a key without a prefix: nothing tells its ciphertexts from others
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.dataKeys[c.DataKey]
	}
}

// errKind says that a value cannot be had in the form that was asked for.
var errKind = errors.New("migrate: the value has no such form")

// clearForm is the plaintext of a type as a client of Redis would have written it, and as middleware.WritePlaintext does:
// numbers as decimal text, bools as 1 and 0.
func clearForm(t wire.Type, b []byte) ([]byte, error) {
	if want := width(t); want != 0 && len(b) != want {
		return nil, fmt.Errorf("%w: %s of %d bytes", middleware.ErrUnsupportedFormat, t, len(b))
	}
	var u uint64
	switch len(b) {
	case 1:
		u = uint64(b[0])
	case 2:
		u = uint64(binary.BigEndian.Uint16(b))
	case 4:
		u = uint64(binary.BigEndian.Uint32(b))
	case 8:
		u = binary.BigEndian.Uint64(b)
	}
	switch t {
	case wire.Bool:
		if u > 1 {
			return nil, fmt.Errorf("%w: bool that is neither 0 nor 1", middleware.ErrUnsupportedFormat)
		}
		return strconv.AppendUint(nil, u, 10), nil
	case wire.Int8:
		return strconv.AppendInt(nil, int64(int8(u)), 10), nil
	case wire.Int16:
		return strconv.AppendInt(nil, int64(int16(u)), 10), nil
	case wire.Int32:
		return strconv.AppendInt(nil, int64(int32(u)), 10), nil
	case wire.Int, wire.Int64:
		return strconv.AppendInt(nil, int64(u), 10), nil
	case wire.Uint, wire.Uint8, wire.Uint16, wire.Uint32, wire.Uint64, wire.Uintptr:
		return strconv.AppendUint(nil, u, 10), nil
	case wire.Float32: // go-redis widens before it prints
		return strconv.AppendFloat(nil, float64(math.Float32frombits(uint32(u))), 'f', -1, 64), nil
	case wire.Float64:
		return strconv.AppendFloat(nil, math.Float64frombits(u), 'f', -1, 64), nil
	}
	if wire.IsSealed(b) {
		return nil, fmt.Errorf("%w: in clear it would look sealed", errKind)
	}
	return b, nil
}

// width is the length of a plaintext of a type that has only one, else 0.
func width(t wire.Type) int {
	switch t {
	case wire.Bool, wire.Int8, wire.Uint8:
		return 1
	case wire.Int16, wire.Uint16:
		return 2
	case wire.Int32, wire.Uint32, wire.Float32:
		return 4
	case wire.Int, wire.Int64, wire.Uint, wire.Uint64, wire.Uintptr, wire.Float64:
		return 8
	default:
		return 0
	}
}

// fits tells whether a clear value can be of a type.
func fits(t wire.Type, b []byte) bool { return t != wire.JSON || json.Valid(b) }
