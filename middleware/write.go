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

// scratch is the memory of one write: the fixed width of a number, a plaintext with
// what is sealed with the value, and a sealed value until the backing store has
// finished with it.
type scratch struct {
	out    []byte
	packed []byte
	word   [8]byte
	lent   bool // the sealed value may be in a large buffer, which free takes back with out
}

// maxPooled bounds the buffers that are pooled. A value of 100 MiB must not hold
// 100 MiB for each processor: there is one larger buffer, of largeBuffer.
const maxPooled = 1 << 20

// scratches is shared by all stores. A pool has no state, and its content
// disappears within two garbage collections.
var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // a pool

func newScratch() *scratch { return scratches.Get().(*scratch) } //nolint:forcetypeassert // only scratches

func (sc *scratch) free() {
	clear(sc.word[:]) // a plaintext number
	clear(sc.packed)
	sc.packed = sc.packed[:0]
	if cap(sc.packed) > maxPooled {
		largePacked.keep(sc.packed)
		sc.packed = nil
	}
	if cap(sc.out) > maxPooled {
		largeSealed.keep(sc.out)
		sc.out = nil
	}
	sc.lent = false
	scratches.Put(sc)
}

func (s *Store) set(ctx context.Context, key, value any, options []store.Option) error {
	a, err := s.address(key)
	if err != nil {
		return err
	}
	plan, err := s.planWrite(options)
	if err != nil {
		return err
	}
	if _, err = s.setAt(ctx, a, value, plan, false); err != nil {
		return err
	}
	return s.removeOthers(ctx, a)
}

// setAt writes the entry at an address, and if onlyNew only if there is none.
func (s *Store) setAt(ctx context.Context, a address, value any, plan writePlan, onlyNew bool) (bool, error) {
	if s.policy() == WritePlaintext {
		return s.setPlaintext(ctx, a, value, plan, onlyNew)
	}
	sc := newScratch()
	defer sc.free()
	// The buffer is used again where the backing store has finished with it when
	// Set returns nil. SetIfNotExists does not promise that.
	var dst []byte
	reuse := !onlyNew && (s.bytes != nil || s.leases)
	if reuse {
		dst, sc.lent = sc.out[:0], true
	}
	sealed, err := s.seal(ctx, dst, sc, a, value, s.endOf(plan.ttl), plan.tags)
	if err != nil {
		return false, err
	}
	if reuse {
		sc.out = sealed
	}
	switch {
	case onlyNew:
		written, err := s.setNX.SetIfNotExists(ctx, a.stored, s.traits.form(sealed), plan.options...)
		return written, s.backingError(err)
	case s.bytes != nil:
		err = s.bytes.SetBytes(ctx, a.stored, sealed, plan.options...)
		if err != nil {
			sc.out = nil // the store may still read it
		}
	case s.leases:
		l := &lease{sealed: sealed}
		err = s.backing.Set(ctx, a.stored, l, plan.options...)
		if err != nil || !l.end() {
			sc.out = nil // another goroutine may still read it
		}
	default:
		err = s.backing.Set(ctx, a.stored, s.traits.form(sealed), plan.options...)
	}
	return true, s.backingError(err)
}

// removeOthers deletes the entry of a's key under the other PRF keys.
func (s *Store) removeOthers(ctx context.Context, a address) error {
	others, err := s.others(a)
	for _, o := range others {
		if err = s.deleteError(s.backing.Delete(ctx, o.stored)); err != nil {
			break
		}
	}
	return err
}

func (s *Store) setIfNotExists(ctx context.Context, key, value any, options []store.Option) (bool, error) {
	if s.setNX == nil {
		return false, s.unsupported("set a key only if it is absent")
	}
	a, err := s.address(key)
	if err != nil {
		return false, err
	}
	if a, err = s.creation(a); err != nil {
		return false, err
	}
	plan, err := s.planWrite(options)
	if err != nil {
		return false, err
	}
	if other, err := s.takenElsewhere(ctx, a); other != nil || err != nil {
		if err != nil || !s.cfg.missOnFailure {
			return false, err
		}
		written, taken, err := s.replaceRefused(ctx, *other, value, plan)
		if err != nil || written || taken {
			return written, err
		}
	}
	for n := 1; ; n++ {
		written, taken, err := s.createAt(ctx, a, value, plan)
		if err != nil || written || taken || !s.cfg.missOnFailure && !s.cfg.sealExpiry {
			return written, err
		}
		written, taken, err = s.replaceRefused(ctx, a, value, plan)
		if err != nil || written || taken {
			return written, err
		}
		// The entry that was refused has disappeared or changed. The result must be
		// about the present entry.
		if n == maxAttempts {
			return false, fmt.Errorf("%w (%d attempts)", ErrConflict, n)
		}
	}
}

// createAt writes the entry at the address of creation if there is none. With several
// PRF keys a Set of another process writes elsewhere. A look before the creation can
// miss it. So createAt looks again, takes its entry back, and reports taken.
func (s *Store) createAt(ctx context.Context, a address, value any, plan writePlan) (written, taken bool, err error) {
	if s.prfKeys() == 1 || s.can.atomic == nil {
		written, err = s.setAt(ctx, a, value, plan, true)
		return written, false, err
	}
	sc := newScratch()
	defer sc.free()
	sealed, err := s.seal(ctx, nil, sc, a, value, s.endOf(plan.ttl), plan.tags)
	if err != nil {
		return false, false, err
	}
	written, err = s.setNX.SetIfNotExists(ctx, a.stored, s.traits.form(sealed), plan.options...)
	if err != nil || !written {
		return false, false, s.backingError(err)
	}
	if other, err := s.takenElsewhere(ctx, a); other == nil || err != nil {
		return err == nil, false, err
	}
	// Another client may have changed or removed it already.
	_, err = s.can.atomic.CompareAndDelete(ctx, a.stored, sealed, tailBytes)
	return false, true, s.backingError(err)
}

// takenElsewhere returns where a's key has an entry under another PRF key, nil if it
// has none. An expired one does not count.
func (s *Store) takenElsewhere(ctx context.Context, a address) (*address, error) {
	others, err := s.others(a)
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		v, err := s.fetch(ctx, o.stored, true) // as in replaceRefused
		if err == nil {
			_, _, err = s.read(ctx, o, v)
		}
		switch {
		case isMiss(err):
		case err == nil, unreadable(err):
			return &o, nil
		default:
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // see above
}

// replaceRefused is SetIfNotExists for a key whose entry may count as a miss. It
// decides about the bytes that it read, and replaces no others. It reports whether it
// wrote, and whether the key is taken by an entry that does not count as a miss.
func (s *Store) replaceRefused(ctx context.Context, a address, value any, plan writePlan) (written, taken bool, err error) {
	v, err := s.fetch(ctx, a.stored, true) // with the TTL, because a near cache does not serve that
	if isMiss(err) {
		return false, false, nil // it has disappeared
	}
	if err != nil {
		return false, false, err
	}
	old := slices.Clone(v.raw) // reading may open it in place
	_, _, err = s.read(ctx, a, v)
	ended := errors.Is(err, errExpired)
	if !ended && !s.cfg.missOnFailure && (err == nil || unreadable(err)) {
		return false, true, nil
	}
	final := ended || errors.Is(err, ErrNotSealed)
	if box.Refused(err) {
		final, err = s.refusedAgain(ctx, a, old, err)
	}
	switch {
	case err == nil:
		return false, true, nil
	case !final || v.notBytes:
		return false, false, err // perhaps a sound value
	case s.swapper == nil:
		return false, false, s.unsupported("replace an unreadable or expired value atomically")
	case s.can.atomic != nil:
		written, err = s.replaceEntry(ctx, entry{at: a, stored: old, sealed: wire.IsSealed(old)}, value, plan)
		return written, false, err
	default:
		written, err = s.swap(ctx, a, old, value, plan)
		return written, false, err
	}
}

// refusedAgain reloads the keyset and opens a refused value again. It reports
// whether the refusal is final. It is not if no reload began after the value was
// read: another process may have sealed it under a key that it loaded first.
func (s *Store) refusedAgain(ctx context.Context, a address, sealed []byte, refusal error) (final bool, err error) {
	answer, reloadErr := s.reload.Run(ctx, s.reload.Now())
	if reloadErr == nil && answer.Again {
		_, refusal = s.open(ctx, a, slices.Clone(sealed), true)
	}
	if (reloadErr != nil || !answer.Decided) && box.Refused(refusal) {
		return false, fmt.Errorf("middleware: entry kept, because the keyset was not reloaded after the read: %w", refusal)
	}
	return box.Final(refusal) || errors.Is(refusal, errExpired), refusal
}

// tailBytes is how much of a sealed value identifies it, with its length: an
// authentication tag. The first bytes are the same for all values under one data
// key.
const tailBytes = 16

// swap is replaceEntry for a Swapper that is not an AtomicStore.
func (s *Store) swap(ctx context.Context, a address, old []byte, value any, plan writePlan) (bool, error) {
	if len(plan.tags) > 0 {
		// Without the tags, Invalidate would never find the entry.
		return false, s.unsupported("replace a value and set its tags in one step")
	}
	var replacement []byte
	var err error
	if s.policy() == WritePlaintext {
		replacement, err = s.plaintextBytes(value)
	} else {
		sc := newScratch()
		defer sc.free()
		replacement, err = s.seal(ctx, nil, sc, a, value, s.endOf(plan.ttl), nil)
	}
	if err != nil {
		return false, err
	}
	tail := 0
	if wire.IsSealed(old) {
		tail = tailBytes
	}
	swapped, err := s.swapper.CompareAndSwap(ctx, a.stored, old, tail, replacement, plan.ttl)
	return swapped, s.backingError(err)
}

// setPlaintext writes a value as the backing store would without this package.
func (s *Store) setPlaintext(ctx context.Context, a address, value any, plan writePlan, onlyNew bool) (bool, error) {
	value, err := s.plaintextForm(value)
	if err != nil {
		return false, err
	}
	s.tel.plaintextValue(ctx, "written")
	if onlyNew {
		written, err := s.setNX.SetIfNotExists(ctx, a.stored, value, plan.options...)
		return written, s.backingError(err)
	}
	return true, s.backingError(s.backing.Set(ctx, a.stored, value, plan.options...))
}

// plaintextForm returns the value in the form in which an application would give it
// to the backing store.
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
		return nil, &typeError{fmt.Sprintf("%T", value), fmt.Sprintf("the %s store does not support the type as plaintext", s.backing.GetType())}
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
