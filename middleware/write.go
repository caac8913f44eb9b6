package middleware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// scratch is the memory of one write. It holds the fixed width of a number, and a
// plaintext with what is sealed with the value. It holds a sealed value until the
// backing store has finished with it.
type scratch struct {
	out    []byte
	packed []byte
	word   [8]byte
	reused bool // the sealed value may be in a large buffer, which free takes back with out
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
	sc.reused = false
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
	if err = s.checkWrite(a.stored, plan); err != nil {
		return err
	}
	if err = s.setAt(ctx, a, value, plan); err != nil {
		return err
	}
	return s.removeOthers(ctx, a)
}

// setAt writes the entry at an address.
func (s *Store) setAt(ctx context.Context, a address, value any, plan writePlan) error {
	if s.policy() == WritePlaintext {
		form, err := s.writtenPlaintext(ctx, value)
		if err != nil {
			return err
		}
		return s.writeError(s.backing.Set(ctx, a.stored, form, plan.options...))
	}
	sc := newScratch()
	defer sc.free()
	t, encoded, err := s.sealer.encode(&sc.word, value)
	if err != nil {
		return err
	}
	return s.setEncoded(ctx, sc, a, t, encoded, plan)
}

// setEncoded writes an encoded value of type t at an address.
func (s *Store) setEncoded(ctx context.Context, sc *scratch, a address, t wire.Type, encoded []byte, plan writePlan) error {
	// The buffer is used again where the backing store has finished with it when
	// its method returns nil.
	var dst []byte
	reuse := s.can.bytes != nil || s.reusedBuffers
	if reuse {
		dst, sc.reused = sc.out[:0], true
	}
	sealed, err := s.sealer.sealBytes(ctx, dst, sc, s.binding(a, s.endOf(plan.ttl), plan.tags), t, encoded)
	if err != nil {
		return err
	}
	if reuse {
		sc.out = sealed
	}
	switch {
	case s.can.bytes != nil:
		if s.can.ttlSetter != nil && plan.exact && len(plan.tags) == 0 {
			err = s.can.ttlSetter.SetBytesWithTTL(ctx, a.stored, sealed, plan.ttl)
		} else {
			err = s.can.bytes.SetBytes(ctx, a.stored, sealed, plan.options...)
		}
		if err != nil {
			sc.out = nil // the store may still read it
		}
	case s.reusedBuffers:
		b := &reusedBuffer{sealed: sealed}
		err = s.backing.Set(ctx, a.stored, b, plan.options...)
		if err != nil || !b.end() {
			sc.out = nil // another goroutine may still read it
		}
	default:
		err = s.backing.Set(ctx, a.stored, s.traits.form(sealed), plan.options...)
	}
	return s.writeError(err)
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
	if s.can.setNX == nil {
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
	if err = s.checkWrite(a.stored, plan); err != nil {
		return false, err
	}
	for n := 1; ; n++ {
		written, taken, err := s.createIfAbsent(ctx, a, value, plan)
		if err != nil || written || taken {
			return written, err
		}
		// An entry that was refused has disappeared or changed. The result must be
		// about the present entry.
		if n == maxAttempts {
			return false, fmt.Errorf("%w (try again)", ErrConflict)
		}
	}
}

// createIfAbsent is one attempt of SetIfNotExists. It writes only at the address of
// creation, and only if the entry at every address is absent or counts as a miss.
func (s *Store) createIfAbsent(ctx context.Context, a address, value any, plan writePlan) (written, taken bool, err error) {
	taken, refused, err := s.takenElsewhere(ctx, a)
	if err != nil || taken {
		return false, taken, err
	}
	if removed, err := s.removeRefused(ctx, refused); !removed {
		return false, false, err
	}
	written, taken, err = s.createAt(ctx, a, value, plan)
	switch {
	case err != nil || written || taken:
		return written, taken, err
	case s.cfg.missOnFailure || s.cfg.sealExpiry:
		return s.replaceRefused(ctx, a, value, plan)
	default:
		return false, true, nil
	}
}

// createAt writes the entry at the address of creation if there is none. With several
// PRF keys a Set of another process writes elsewhere. A look before the creation can
// miss it. So createAt looks again, takes its entry back, and reports taken.
func (s *Store) createAt(ctx context.Context, a address, value any, plan writePlan) (written, taken bool, err error) {
	if s.policy() == WritePlaintext {
		form, err := s.writtenPlaintext(ctx, value)
		if err != nil {
			return false, false, err
		}
		written, err = s.can.setNX.SetIfNotExists(ctx, a.stored, form, plan.options...)
		return written, false, s.writeError(err)
	}
	sc := newScratch()
	defer sc.free()
	sealed, err := s.seal(ctx, nil, sc, a, value, s.endOf(plan.ttl), plan.tags)
	if err != nil {
		return false, false, err
	}
	written, err = s.can.setNX.SetIfNotExists(ctx, a.stored, s.traits.form(sealed), plan.options...)
	if err != nil || !written || s.prfKeys() == 1 || s.can.atomic == nil {
		return written, false, s.writeError(err)
	}
	return s.lookAgain(ctx, a, sealed)
}

// lookAgain looks for entries under the other PRF keys after an entry was created. It takes that entry back if there is one,
// and reports whether the created entry stays and whether the key is taken.
func (s *Store) lookAgain(ctx context.Context, a address, sealed []byte) (written, taken bool, err error) {
	taken, refused, err := s.takenElsewhere(ctx, a)
	if err == nil && !taken && len(refused) == 0 {
		return true, false, nil
	}
	// Another client may have changed or removed it already. An error must leave nothing behind, even if ctx has ended.
	ctx = context.WithoutCancel(ctx)
	if _, back := s.can.atomic.CompareAndDelete(ctx, a.stored, sealed, tailBytes); err == nil {
		err = s.backingError(back)
	}
	return false, taken, err
}

// takenElsewhere reports whether a's key has an entry under another PRF key. If not,
// it returns the entries there that count as misses.
func (s *Store) takenElsewhere(ctx context.Context, a address) (taken bool, refused []entry, err error) {
	others, err := s.others(a)
	if err != nil {
		return false, nil, err
	}
	for _, o := range others {
		taken, e, err := s.occupied(ctx, o)
		if err != nil || taken {
			return taken, nil, err
		}
		if e != nil {
			refused = append(refused, *e)
		}
	}
	return false, refused, nil
}

// occupied reports whether SetIfNotExists finds the key taken by the entry at one
// address. If the entry counts as a miss, occupied returns it.
func (s *Store) occupied(ctx context.Context, a address) (taken bool, refused *entry, err error) {
	v, err := s.fetch(ctx, a.stored, true) // with the TTL, because a near cache does not serve that
	if isMiss(err) {
		return false, nil, nil
	}
	if err != nil {
		if !s.cfg.missOnFailure && unreadable(err) {
			return true, nil, nil
		}
		return false, nil, err
	}
	old := slices.Clone(v.raw) // reading may open it in place
	if _, err = s.read(ctx, a, v); err == nil {
		return true, nil, nil
	}
	absent, err := s.countsAsAbsent(ctx, a, old, err)
	switch {
	case err == nil, !absent && !s.cfg.missOnFailure && unreadable(err):
		return true, nil, nil
	case !absent || v.notBytes:
		return false, nil, err // perhaps a sound value
	default:
		return false, &entry{at: a, stored: old, sealed: wire.IsSealed(old), refused: err}, nil
	}
}

// removeRefused deletes entries that count as misses. It reports whether none of them
// changed since it was read.
func (s *Store) removeRefused(ctx context.Context, refused []entry) (bool, error) {
	for _, e := range refused {
		if s.can.atomic == nil {
			if errors.Is(e.refused, errExpired) {
				continue // it is a miss for every reader
			}
			return false, s.unsupported("replace a refused or expired value")
		}
		removed, err := s.can.atomic.CompareAndDelete(ctx, e.at.stored, e.stored, e.tail())
		if err != nil || !removed {
			return false, s.backingError(err)
		}
	}
	return true, nil
}

// replaceRefused is SetIfNotExists for a key whose entry may count as a miss. It
// decides about the bytes that it read, and replaces no others. It reports whether it
// wrote, and whether the key is taken by an entry that does not count as a miss.
func (s *Store) replaceRefused(ctx context.Context, a address, value any, plan writePlan) (written, taken bool, err error) {
	taken, refused, err := s.occupied(ctx, a)
	switch {
	case err != nil || taken || refused == nil:
		return false, taken, err // without an entry, it has disappeared
	case s.can.swapper == nil:
		return false, false, s.unsupported("replace a refused or expired value")
	case s.can.atomic != nil:
		return s.createOver(ctx, *refused, value, plan)
	default:
		written, err = s.swap(ctx, a, refused.stored, value, plan)
		return written, false, err
	}
}

// refusedAgain reloads the keyset and opens a refused value again. It reports
// whether the refusal is final. It is not if no reload began after the value was first
// refused here. Another process may have sealed it under a key that it loaded first.
func (s *Store) refusedAgain(ctx context.Context, a address, sealed []byte, refusal error) (final bool, err error) {
	seen := s.reload.Refused(a.stored, sealed)
	answer, reloadErr := s.reload.Run(ctx, seen.Since)
	if reloadErr == nil && answer.Again {
		if _, refusal = s.open(ctx, a, slices.Clone(sealed), true); refusal == nil {
			s.reload.Opened(seen)
		}
	}
	if (reloadErr != nil || !answer.Decided) && box.Refused(refusal) {
		const lacks = "middleware: this process may lack the key of the stored entry, so nothing was written (retry in 10 s): "
		return false, &withheld{lacks + strings.TrimPrefix(refusal.Error(), "middleware: "), refusal}
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
		return false, s.unsupported("replace a value and its tags in one step")
	}
	replacement, err := s.replacement(ctx, a, value, s.endOf(plan.ttl), nil)
	if err != nil {
		return false, err
	}
	tail := 0
	if wire.IsSealed(old) {
		tail = tailBytes
	}
	swapped, err := s.can.swapper.CompareAndSwap(ctx, a.stored, old, tail, replacement, plan.ttl)
	return swapped, s.backingError(err)
}

// writtenPlaintext is plaintextForm for a value that is written, and counts it.
func (s *Store) writtenPlaintext(ctx context.Context, value any) (any, error) {
	form, err := s.plaintextForm(value)
	if err == nil {
		s.tel.plaintextValue(ctx, "written")
	}
	return form, err
}

// looksSealedError is an ErrUnsupportedFormat about a value that a caller wants to store. The text says what to do instead.
type looksSealedError struct{}

func (looksSealedError) Error() string {
	return "middleware: plaintext that starts like a sealed value cannot be stored (use ReadPlaintext, which seals it)"
}

func (looksSealedError) Unwrap() error { return ErrUnsupportedFormat }

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
	if wire.IsSealed(plaintext) && (t == wire.Bytes || t == wire.String || t.Codec()) {
		return nil, looksSealedError{}
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
