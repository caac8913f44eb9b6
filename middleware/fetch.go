package middleware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// fetched is what the backing store holds under a key.
type fetched struct {
	raw   []byte
	owned bool // raw may be written to
	// other is what the backing store's Get returned, as it returned it, nil if
	// GetBytes was called; with notBytes it is neither []byte nor string, so
	// certainly clear.
	other    any
	notBytes bool
	ttl      time.Duration
}

// fetch reads what is stored. While clear values are tolerated it goes by the
// store's Get, so that they come back in the Go type that the store gives them.
func (s *Store) fetch(ctx context.Context, name string, withTTL bool) (f fetched, err error) {
	name = s.prefix + name
	f.owned = s.bytes != nil && s.policy() == RejectPlaintext
	switch {
	case f.owned && withTTL:
		f.raw, f.ttl, err = s.bytes.GetBytesWithTTL(ctx, name)
	case f.owned:
		f.raw, err = s.bytes.GetBytes(ctx, name)
	case withTTL:
		f.other, f.ttl, err = s.backing.GetWithTTL(ctx, name)
		f.ttl = s.quirks.ttl(f.ttl)
	default:
		f.other, err = s.backing.Get(ctx, name)
	}
	if err != nil {
		return fetched{}, s.backingError(err)
	}
	if !f.owned {
		switch v := f.other.(type) {
		case []byte:
			f.raw = v
		case string:
			f.raw = bytesOf(v)
		default:
			f.notBytes = true
		}
	}
	return f, nil
}

// read turns what was fetched into the value, by the plaintext policy.
func (s *Store) read(ctx context.Context, name string, f fetched) (any, error) {
	if !f.notBytes && wire.IsSealed(f.raw) {
		return s.open(ctx, name, f.raw, f.owned)
	}
	policy := s.policy()
	if policy == RejectPlaintext {
		return nil, errRefusedClear
	}
	s.tel.clear(ctx, "read")
	value := s.clearValue(f)
	if policy == SealOnRead {
		s.sealInPlace(ctx, name, f, value)
	}
	return value, nil
}

// errRefusedClear is made once: whoever plants clear values should not cost
// more than whoever does not.
var errRefusedClear = fmt.Errorf("%w: who wrote it does not seal; to read it during a migration see WithPlaintext", ErrNotSealed)

// clearValue is a value in clear as the application should see it: decoded, if
// the store's only codec can, else as the backing store returned it. In clear a
// value does not tell its type; with several codecs any choice would be a guess.
func (s *Store) clearValue(f fetched) any {
	if !f.notBytes && len(f.raw) > 0 && len(s.cfg.codecs) == 1 {
		if v, err := s.cfg.codecs[0].Decode(slices.Clone(f.raw)); err == nil {
			return v
		}
	}
	switch v := f.other.(type) {
	case []byte:
		return slices.Clone(v) // the caller's own
	case nil:
		if f.owned { // the tolerance began between fetching and reading
			return f.raw
		}
		return nil
	default:
		return v
	}
}

// sealInPlace replaces the clear value that was read by its sealed form, if it
// is still what is stored. Its failure is no failure of the read: the value
// stays as it is, and the next read tries again.
func (s *Store) sealInPlace(ctx context.Context, name string, f fetched, value any) {
	what := "reseal_failed"
	defer func() { s.tel.clear(ctx, what) }()
	if f.notBytes {
		return
	}
	sc := newScratch()
	defer sc.free()
	sealed, err := s.seal(ctx, sc, name, value)
	if err == nil {
		var swapped bool
		sc.out = nil // CompareAndSwap is not promised to have done with it
		swapped, err = s.swapper.CompareAndSwap(ctx, s.prefix+name, f.raw, 0, sealed, keepTTL)
		if err == nil && swapped {
			what = "resealed"
			return
		}
		if err == nil {
			what = "changed_meanwhile"
			return
		}
	}
	if s.tel.mayLog() {
		s.tel.log.WarnContext(ctx, "sealcache: a clear value that was read could not be sealed in place", "reason", outcome(err))
	}
}

// keepTTL tells CompareAndSwap to leave the entry's expiry alone.
const keepTTL time.Duration = -1

// tailBytes is how much of a sealed value identifies it, with its length: an
// authentication tag. A sealed value's first bytes say little, since all values
// under one data key share them.
const tailBytes = 16

// replaceUnreadable is SetIfNotExists for a key whose entry counts as a miss.
func (s *Store) replaceUnreadable(ctx context.Context, key, value any, options []store.Option) (bool, error) {
	name, err := keyName(key)
	if err != nil {
		return false, err
	}
	f, err := s.fetch(ctx, name, false)
	if err != nil || f.notBytes {
		if isMiss(err) {
			return s.set(ctx, key, value, options, true) // gone meanwhile
		}
		return false, err
	}
	old := slices.Clone(f.raw) // reading may open it in place
	if _, err = s.read(ctx, name, f); err == nil {
		return false, nil
	}
	if !box.Final(err) && !errors.Is(err, ErrNotSealed) {
		return false, err // perhaps a sound value
	}
	if s.swapper == nil {
		return false, s.unsupported("replace an unreadable value atomically")
	}
	tail := 0
	if wire.IsSealed(old) {
		tail = tailBytes
	}
	return s.swap(ctx, name, old, tail, value, options)
}

func (s *Store) swap(ctx context.Context, name string, old []byte, tail int, value any, options []store.Option) (bool, error) {
	opts, err := s.passOn(options)
	if err != nil {
		return false, err
	}
	var defaults store.Options
	if d, ok := s.backing.(Defaulter); ok {
		defaults = d.Defaults()
	}
	merged := store.ApplyOptionsWithDefault(&defaults, opts...)
	if len(merged.Tags) > 0 {
		// Without the tags an Invalidate would miss the entry for ever.
		return false, s.unsupported("replace an unreadable value and set its tags in one step: delete the entry first")
	}
	sc := newScratch()
	defer sc.free()
	var stored []byte
	if s.policy() == WritePlaintext {
		stored, err = s.clearBytes(value)
	} else {
		stored, err = s.seal(ctx, sc, name, value)
		sc.out = nil
	}
	if err != nil {
		return false, err
	}
	swapped, err := s.swapper.CompareAndSwap(ctx, s.prefix+name, old, tail, stored, max(merged.Expiration, 0))
	return swapped, s.backingError(err)
}

// clearBytes is clearForm for a swap, which takes bytes.
func (s *Store) clearBytes(value any) ([]byte, error) {
	form, err := s.clearForm(value)
	if err != nil {
		return nil, err
	}
	switch v := form.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	default:
		return nil, s.unsupported(fmt.Sprintf("swap in a clear %T: delete the entry first", value))
	}
}

// setClear writes a value as the backing store would without this package.
func (s *Store) setClear(ctx context.Context, name string, value any, opts []store.Option, onlyNew bool) (bool, error) {
	value, err := s.clearForm(value)
	if err != nil {
		return false, err
	}
	s.tel.clear(ctx, "written")
	if onlyNew {
		written, err := s.setNX.SetIfNotExists(ctx, s.prefix+name, value, opts...)
		return written, s.backingError(err)
	}
	return true, s.backingError(s.backing.Set(ctx, s.prefix+name, value, opts...))
}

// clearForm is what an application would have given the backing store itself.
func (s *Store) clearForm(value any) (any, error) {
	var word [8]byte
	t, plaintext, err := s.encode(&word, value)
	if err != nil {
		return nil, err
	}
	if len(plaintext) > s.cfg.maxValueBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed: see WithMaxValueBytes", ErrTooLarge, len(plaintext), s.cfg.maxValueBytes)
	}
	if wire.IsSealed(plaintext) && (t == wire.Bytes || t == wire.String) {
		return nil, fmt.Errorf("%w: a value in clear may not start with the two bytes of a sealed one: it could not be told from one", ErrUnsupportedFormat)
	}
	switch {
	case t.Codec(), t == wire.Bytes, t == wire.String:
		if t != wire.String {
			plaintext = slices.Clone(plaintext) // some stores keep what they are given
		}
		if t == wire.String && !s.quirks.bytes {
			return value, nil
		}
		return s.quirks.form(plaintext), nil
	case s.quirks.strings || s.quirks.bytes:
		return nil, fmt.Errorf("%w: %T in clear: the %s store does not take it", ErrUnsupportedType, value, s.backing.GetType())
	default:
		return value, nil
	}
}

// form is b in the Go type that the backing store takes.
func (q quirks) form(b []byte) any {
	if q.strings {
		return stringOf(b)
	}
	return b
}
