package middleware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// scratch is the memory of one write: the fixed width of a number, and a sealed
// value until the backing store has finished with it.
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

func (s *Store) set(ctx context.Context, key, value any, options []store.Option, onlyNew bool) (bool, error) {
	name, err := keyName(key)
	if err != nil {
		return false, err
	}
	opts, err := s.backingOptions(options)
	if err != nil {
		return false, err
	}
	if s.policy() == WritePlaintext {
		return s.setPlaintext(ctx, name, value, opts, onlyNew)
	}
	sc := newScratch()
	defer sc.free()
	// The buffer is used again where the backing store has finished with it when
	// Set returns nil. SetIfNotExists does not promise that.
	var dst []byte
	reuse := !onlyNew && (s.bytes != nil || s.leases)
	if reuse {
		dst = sc.out[:0]
	}
	sealed, err := s.sealer.seal(ctx, dst, sc, name, value)
	if err != nil {
		return false, err
	}
	if reuse {
		sc.out = sealed
	}
	switch {
	case onlyNew:
		written, err := s.setNX.SetIfNotExists(ctx, s.prefix+name, s.traits.form(sealed), opts...)
		return written, s.backingError(err)
	case s.bytes != nil:
		err = s.bytes.SetBytes(ctx, s.prefix+name, sealed, opts...)
		if err != nil {
			sc.out = nil // the store may still read it
		}
	case s.leases:
		l := &lease{sealed: sealed}
		err = s.backing.Set(ctx, s.prefix+name, l, opts...)
		if err != nil || !l.end() {
			sc.out = nil // another goroutine may still read it
		}
	default:
		err = s.backing.Set(ctx, s.prefix+name, s.traits.form(sealed), opts...)
	}
	return true, s.backingError(err)
}

func (s *Store) setIfNotExists(ctx context.Context, key, value any, options []store.Option) (bool, error) {
	if s.setNX == nil {
		return false, s.unsupported("set a key only if it is absent")
	}
	written, err := s.set(ctx, key, value, options, true)
	if err == nil && !written && s.cfg.missOnFailure {
		return s.replaceRefused(ctx, key, value, options)
	}
	return written, err
}

// replaceRefused is SetIfNotExists for a key whose entry counts as a miss. It
// decides about the bytes that it read, and replaces no others.
func (s *Store) replaceRefused(ctx context.Context, key, value any, options []store.Option) (bool, error) {
	name, err := keyName(key)
	if err != nil {
		return false, err
	}
	v, err := s.fetch(ctx, s.prefix+name, false)
	if isMiss(err) {
		return s.set(ctx, key, value, options, true) // it has disappeared
	}
	if err != nil {
		return false, err
	}
	old := slices.Clone(v.raw) // reading may open it in place
	_, err = s.read(ctx, name, v)
	final := errors.Is(err, ErrNotSealed)
	if box.Refused(err) {
		final, err = s.refusedAgain(ctx, name, old, err)
	}
	switch {
	case err == nil:
		return false, nil
	case !final || v.notBytes:
		return false, err // perhaps a sound value
	case s.swapper == nil:
		return false, s.unsupported("replace an unreadable value atomically")
	default:
		return s.swap(ctx, name, old, value, options)
	}
}

// refusedAgain reloads the keyset and opens a refused value again. It reports
// whether the refusal is final. It is not if no reload began after the value was
// read: another process may have sealed it under a key that it loaded first.
func (s *Store) refusedAgain(ctx context.Context, name string, sealed []byte, refusal error) (final bool, err error) {
	answer, reloadErr := s.reload.Run(ctx, s.reload.Now())
	if reloadErr == nil && answer.Again {
		_, refusal = s.sealer.open(ctx, name, slices.Clone(sealed), true)
	}
	if (reloadErr != nil || !answer.Decided) && box.Refused(refusal) {
		return false, fmt.Errorf("middleware: entry kept, its keyset was not reloaded after the read: %w", refusal)
	}
	return box.Final(refusal), refusal
}

// tailBytes is how much of a sealed value identifies it, with its length: an
// authentication tag. The first bytes are the same for all values under one data
// key.
const tailBytes = 16

func (s *Store) swap(ctx context.Context, name string, old []byte, value any, options []store.Option) (bool, error) {
	opts, err := s.backingOptions(options)
	if err != nil {
		return false, err
	}
	var defaults store.Options
	if d := s.can.defaulter; d != nil {
		defaults = d.Defaults()
	}
	merged := store.ApplyOptionsWithDefault(&defaults, opts...)
	if len(merged.Tags) > 0 {
		// Without the tags an Invalidate would miss the entry for ever.
		return false, s.unsupported("replace a value and set its tags in one step")
	}
	var replacement []byte
	if s.policy() == WritePlaintext {
		replacement, err = s.plaintextBytes(value)
	} else {
		sc := newScratch()
		defer sc.free()
		replacement, err = s.sealer.seal(ctx, nil, sc, name, value)
	}
	if err != nil {
		return false, err
	}
	tail := 0
	if wire.IsSealed(old) {
		tail = tailBytes
	}
	swapped, err := s.swapper.CompareAndSwap(ctx, s.prefix+name, old, tail, replacement, max(merged.Expiration, 0))
	return swapped, s.backingError(err)
}

// setPlaintext writes a value as the backing store would without this package.
func (s *Store) setPlaintext(ctx context.Context, name string, value any, opts []store.Option, onlyNew bool) (bool, error) {
	value, err := s.plaintextForm(value)
	if err != nil {
		return false, err
	}
	s.tel.plaintextValue(ctx, "written")
	if onlyNew {
		written, err := s.setNX.SetIfNotExists(ctx, s.prefix+name, value, opts...)
		return written, s.backingError(err)
	}
	return true, s.backingError(s.backing.Set(ctx, s.prefix+name, value, opts...))
}

// plaintextForm returns what an application would give the backing store itself.
func (s *Store) plaintextForm(value any) (any, error) {
	var word [8]byte
	t, plaintext, err := s.sealer.encode(&word, value)
	if err != nil {
		return nil, err
	}
	if err := s.sealer.bounded(len(plaintext)); err != nil {
		return nil, err
	}
	if t.Codec() {
		if err := boundDecoded(len(plaintext), s.maxDecoded()); err != nil { // no Get would read it
			return nil, err
		}
	}
	if wire.IsSealed(plaintext) && (t == wire.Bytes || t == wire.String) {
		return nil, fmt.Errorf("%w: plaintext that starts like a sealed value cannot be stored unsealed", ErrUnsupportedFormat)
	}
	switch {
	case t.Codec(), t == wire.Bytes, t == wire.String:
		if t != wire.String {
			plaintext = slices.Clone(plaintext) // some stores keep what they are given
		}
		if t == wire.String && !s.traits.bytes {
			return value, nil
		}
		return s.traits.form(plaintext), nil
	case s.traits.strings || s.traits.bytes:
		return nil, &typeError{fmt.Sprintf("%T", value), fmt.Sprintf("the %s store does not take it as plaintext", s.backing.GetType())}
	default:
		return value, nil
	}
}

// plaintextBytes is plaintextForm for a swap, which takes bytes.
func (s *Store) plaintextBytes(value any) ([]byte, error) {
	form, err := s.plaintextForm(value)
	if err != nil {
		return nil, err
	}
	switch v := form.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	default:
		return nil, s.unsupported(fmt.Sprintf("swap in a plaintext %T", value))
	}
}
