package middleware

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// entry is the state that an atomic operation found under a key.
type entry struct {
	at      address // where it is stored, or shall be created
	found   bool
	value   any
	stored  []byte // as the backing store holds it, to compare with
	sealed  bool
	ttl     time.Duration // in the backing store
	end     time.Time     // the sealed end, or zero
	tags    []string      // that are sealed with the value
	form    wire.Type     // of encoded
	encoded []byte
	refused error // why an entry that is there counts as absent

	elsewhere []entry // the refused entries under other PRF keys, if none is found
}

// refusal returns why an entry under any PRF key counts as absent, nil if there is
// none.
func (e entry) refusal() error {
	if e.refused == nil && len(e.elsewhere) > 0 {
		return e.elsewhere[0].refused
	}
	return e.refused
}

// tail is how much of a stored value is compared.
func (e entry) tail() int {
	if e.sealed {
		return tailBytes
	}
	return 0
}

// entry reads an entry that is to be replaced or deleted, under the PRF key that all
// processes agree on first. A refused entry does not hide one that opens under
// another PRF key. An absent entry is not an error: it is at the address of creation.
func (s *Store) entry(ctx context.Context, a address) (entry, error) {
	at, err := s.creation(a)
	if err != nil {
		return entry{}, err
	}
	e, err := s.entryAt(ctx, at)
	if err != nil || e.found {
		return e, err
	}
	others, err := s.others(at)
	if err != nil {
		return entry{}, err
	}
	var refused []entry
	for _, o := range others {
		other, err := s.entryAt(ctx, o)
		if err != nil || other.found {
			return other, err
		}
		if other.refused != nil {
			refused = append(refused, other)
		}
	}
	if len(others) > 0 { // a Set or a migration may have moved the entry here in between
		changed, err := s.changed(ctx, e)
		if err != nil {
			return entry{}, err
		}
		if changed {
			if e, err = s.entryAt(ctx, at); err != nil || e.found {
				return e, err
			}
		}
	}
	e.elsewhere = refused
	return e, nil
}

// changed reports whether the entry has changed, appeared or disappeared since it was read.
func (s *Store) changed(ctx context.Context, e entry) (bool, error) {
	raw, _, err := s.can.atomic.GetBytesToSwap(ctx, e.at.stored, s.sealer.maxStored())
	if err = s.backingError(err); isMiss(err) {
		return e.stored != nil, nil
	}
	return e.stored == nil || !bytes.Equal(raw, e.stored), err
}

// storedBytes reads what is stored under each PRF key, if there are several. It opens nothing.
func (s *Store) storedBytes(ctx context.Context, a address) ([]entry, error) {
	others, err := s.others(a)
	if err != nil || len(others) == 0 {
		return nil, err
	}
	var found []entry
	for _, at := range append(others, a) {
		raw, _, err := s.can.atomic.GetBytesToSwap(ctx, at.stored, s.sealer.maxStored())
		if err = s.backingError(err); isMiss(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, entry{at: at, stored: slices.Clone(raw), sealed: wire.IsSealed(raw)})
	}
	return found, nil
}

// entryAt reads the entry at one address.
func (s *Store) entryAt(ctx context.Context, a address) (entry, error) {
	e, err := s.openEntry(ctx, a)
	if err == nil {
		return e, nil
	}
	absent, err := s.countsAsAbsent(ctx, a, e.stored, err)
	switch {
	case err == nil:
		return s.openEntry(ctx, a) // under a key that was reloaded
	case absent:
		e.refused = err
		return e, nil
	default:
		return entry{}, err // perhaps a sound value
	}
}

// countsAsAbsent reports whether atomic operations treat a stored value as absent after opening it failed with refusal. It
// returns the refusal, or nil if the value opens under a key that was reloaded.
func (s *Store) countsAsAbsent(ctx context.Context, a address, stored []byte, refusal error) (bool, error) {
	switch {
	case errors.Is(refusal, errExpired):
		return true, refusal
	case !s.cfg.missOnFailure:
		return false, refusal
	case box.Refused(refusal):
		return s.refusedAgain(ctx, a, stored, refusal)
	default:
		return Refused(refusal), refusal
	}
}

// openEntry reads an entry and opens it. If the value does not open, it returns the stored bytes
// with the error.
func (s *Store) openEntry(ctx context.Context, a address) (entry, error) {
	raw, ttl, err := s.can.atomic.GetBytesToSwap(ctx, a.stored, s.sealer.maxStored())
	if err != nil {
		if err = s.backingError(err); isMiss(err) {
			return entry{at: a}, nil
		}
		return entry{}, err
	}
	e := entry{at: a, stored: raw, ttl: ttl, sealed: wire.IsSealed(raw)}
	switch {
	case e.sealed:
		var o opened
		o, err = s.open(ctx, a, raw, false)
		e.value, e.encoded, e.form, e.tags, e.end = o.value, o.encoded, o.header.Type, o.labels.Tags, endIn(o.header)
	case s.policy() == RejectPlaintext:
		err = errPlaintextRefused
	default:
		if err = s.sealer.bounded(len(raw)); err == nil {
			s.tel.plaintextValue(ctx, "read")
			e.encoded = raw
			e.value, e.form, err = s.plaintextOf(stored{raw: slices.Clone(raw), owned: true})
		}
	}
	e.found = err == nil
	return e, err
}
