package middleware

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/redistext"
	"github.com/sealcache/sealcache/internal/sleep"
)

// Update replaces the value under key by the result of change. For all other clients this is one
// step: Update neither loses nor overwrites the update of another process. If another client
// changes the entry first, Update reads it again and calls change again. So change may be called
// several times, and must not have side effects. Only its last call counts.
//
// old has the type that it was set with, or is nil if found is false. change may
// modify it and return it. If change returns an error, Update returns that error
// and changes nothing. A panic in change leaves the entry as it was, and does not
// block other calls.
//
// An entry that exists keeps its expiry, to the millisecond, and its tags. opts
// apply to an entry that Update creates. To change the expiry, use Touch.
//
// An entry counts as absent if it is missing or expired. With WithMissOnOpenFailure a value that
// SetIfNotExists would replace also does. Every other unreadable value, and a key service that
// does not answer, is an error that changes nothing. After an error of ctx or of the connection,
// the value may have been written or not. ErrConflict means that Update gave up.
//
// change may call the same Store for other keys. It must not call Update,
// Increment, Touch or GetAndDelete for the same key: the outer Update would
// then end with ErrConflict.
//
// Update needs a backing store with the capabilities AtomicStore, Swapper and
// SetIfNotExistsStore, such as redisstore and memorystore. Over another store it
// returns ErrUnsupported.
func (s *Store) Update(ctx context.Context, key any, change func(old any, found bool) (any, error), opts ...store.Option) error {
	ctx, op := s.tel.begin(ctx, "Update")
	err := s.update(ctx, key, change, opts)
	op.end(err)
	s.tel.refusedWrite(ctx, "Update", err)
	var own *callersError
	if errors.As(err, &own) {
		return own.cause
	}
	return err
}

func (s *Store) update(ctx context.Context, key any, change func(old any, found bool) (any, error), options []store.Option) error {
	if change == nil {
		return errors.New("middleware: Update: the function that changes the value is nil")
	}
	return s.modify(ctx, key, options, func(e entry) (any, error) {
		value, err := change(e.value, e.found)
		if err != nil {
			return nil, &callersError{err}
		}
		return value, nil
	})
}

// callersError is an error of the caller's function. Metrics must not count it
// as an error of this package.
type callersError struct{ cause error }

func (e *callersError) Error() string {
	return "middleware: Update: the caller's function returned an error (errors.As finds it)"
}

func isCallersError(err error) bool {
	var own *callersError
	return errors.As(err, &own)
}

// Touch sets the time that the entry under key has left, 0 for no expiry. The
// value stays. An absent entry is store.NotFound. A negative ttl is an error,
// except -1 ns, which go-redis reports for "no expiry".
//
// Touch reads the value first, because it must not change the expiry of an entry
// that this Store refuses. The errors are those of Update, and the entry counts
// as absent in the same cases. Touch seals a plaintext value that WithPlaintext
// accepts.
//
// The tags of an entry are sealed in its value, up to 16 KiB of them. Touch
// extends their life. A value with a sealed expiry is sealed again with the new
// one. The exception is an entry that SealOnRead or package migrate has sealed
// under its plain name: it contains no tags until the next Set.
func (s *Store) Touch(ctx context.Context, key any, ttl time.Duration) error {
	ctx, op := s.tel.begin(ctx, "Touch")
	err := s.touch(ctx, key, ttl)
	op.end(err)
	s.tel.unreadableValue(ctx, "Touch", err)
	return err
}

func (s *Store) touch(ctx context.Context, key any, ttl time.Duration) error {
	ttl, err := normalExpiration(ttl)
	if err != nil {
		return err
	}
	return s.swapLoop(ctx, key, func(a address) (bool, error) {
		e, err := s.entry(ctx, a)
		switch {
		case err != nil:
			return false, err
		case !e.found:
			return false, miss(e.refusal())
		}
		if err := s.extendTags(ctx, e, ttl); err != nil {
			return false, err
		}
		end := s.touchedEnd(e, ttl)
		if !end.Equal(e.end) || !e.sealed && s.policy() != WritePlaintext {
			// The stored bytes are sealed again, because encoding the decoded value would lose fields that its Go
			// type does not have.
			sc := newScratch()
			defer sc.free()
			sealed, err := s.sealer.sealBytes(ctx, nil, sc, s.binding(e.at, end, e.tags), e.form, e.encoded)
			if err != nil {
				return false, err
			}
			done, err := s.can.swapper.CompareAndSwap(ctx, e.at.stored, e.stored, e.tail(), sealed, ttl)
			return done, s.backingError(err)
		}
		done, err := s.can.atomic.CompareAndExpire(ctx, e.at.stored, e.stored, e.tail(), ttl)
		return done, s.backingError(err)
	})
}

// touchedEnd returns the sealed end of an entry that shall live for ttl.
func (s *Store) touchedEnd(e entry, ttl time.Duration) time.Time {
	if ttl > 0 && (s.cfg.sealExpiry || !e.end.IsZero()) {
		return s.cfg.now().Add(ttl)
	}
	return time.Time{}
}

// extendTags makes the tags that are sealed in an entry live as long as the entry.
func (s *Store) extendTags(ctx context.Context, e entry, ttl time.Duration) error {
	if len(e.tags) == 0 || s.can.extender == nil {
		return nil
	}
	tags, err := s.storedTags(0, e.tags)
	if err != nil {
		return err
	}
	return s.backingError(s.can.extender.ExtendTags(ctx, e.at.stored, tags, ttl))
}

// GetAndDelete returns the value under key and deletes the entry. If several calls
// run at the same time, one gets the value and all others get store.NotFound. So a
// one-time token is accepted only once. A run that changes the names of hidden
// entries in a Cluster is an exception, which docs/hiding.md describes.
//
// GetAndDelete deletes only an entry that it has opened. An unreadable value, and
// a key service that does not answer, is an error, and the entry stays. With
// WithMissOnOpenFailure, a value that is definitely refused is store.NotFound and
// also stays. After an error of ctx or of the connection, the entry may be deleted
// or not.
//
// GetAndDelete needs the capabilities that Update needs.
func (s *Store) GetAndDelete(ctx context.Context, key any) (any, error) {
	ctx, op := s.tel.begin(ctx, "GetAndDelete")
	value, err := s.getAndDelete(ctx, key)
	op.end(err)
	s.tel.unreadableValue(ctx, "GetAndDelete", err)
	return value, err
}

func (s *Store) getAndDelete(ctx context.Context, key any) (value any, err error) {
	err = s.swapLoop(ctx, key, func(a address) (bool, error) {
		before, err := s.storedBytes(ctx, a)
		if err != nil {
			return false, err
		}
		e, err := s.entry(ctx, a)
		switch {
		case err != nil:
			return false, err
		case !e.found:
			return false, miss(e.refusal())
		}
		value = e.value
		// The entries under other PRF keys are deleted first, so that a one-time token cannot be read again. An entry
		// that was written since the read stays.
		for _, other := range before {
			if other.at.stored == e.at.stored {
				continue
			}
			removed, err := s.can.atomic.CompareAndDelete(ctx, other.at.stored, other.stored, other.tail())
			if err != nil || !removed {
				return false, s.backingError(err)
			}
		}
		done, err := s.can.atomic.CompareAndDelete(ctx, e.at.stored, e.stored, e.tail())
		return done, s.backingError(err)
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// modify replaces the value under key by the result of change. change is called
// once for each attempt.
func (s *Store) modify(ctx context.Context, key any, options []store.Option, change func(e entry) (any, error)) error {
	plan, err := s.planWrite(options)
	if err != nil {
		return err
	}
	return s.swapLoop(ctx, key, func(a address) (bool, error) {
		e, err := s.entry(ctx, a)
		if err != nil {
			return false, err
		}
		value, err := change(e)
		switch {
		case err != nil:
			return false, err
		case e.found:
			return s.swapEntry(ctx, e, value)
		}
		if err := s.checkWrite(e.at.stored, plan); err != nil {
			return false, err
		}
		if removed, err := s.removeRefused(ctx, e.elsewhere); !removed {
			return false, err
		}
		if e.refused != nil {
			created, _, err := s.createOver(ctx, e, value, plan)
			return created, err
		}
		created, _, err := s.createAt(ctx, e.at, value, plan)
		return created, err
	})
}

const (
	// maxAttempts bounds the attempts of one call.
	maxAttempts = 100
	// promptAttempts are made without a pause.
	promptAttempts = 3
	// maxPause bounds the pause between two attempts.
	maxPause = 256 * time.Millisecond
)

// swapLoop calls attempt until it reports success or fails, under the lock that
// the goroutines of this process share. Processes that write to the same entry
// pause for random times, so that they do not keep disturbing each other.
func (s *Store) swapLoop(ctx context.Context, key any, attempt func(a address) (bool, error)) error {
	if !s.CanTouch() {
		return s.unsupported("change an entry atomically")
	}
	a, err := s.address(key)
	if err != nil {
		return err
	}
	unlock, err := s.locks.Lock(ctx, a.key)
	if err != nil {
		return err
	}
	defer unlock()
	pause := time.Millisecond
	for n := 1; ; n++ {
		done, err := attempt(a)
		if rediserr.NotOffered(err) && !isCallersError(err) {
			return fmt.Errorf("%w: the Redis server refuses a command that the operation needs: %w", ErrUnsupported, err)
		}
		if done || err != nil {
			return err
		}
		if n == maxAttempts {
			return fmt.Errorf("%w (try again)", ErrConflict)
		}
		if n < promptAttempts {
			continue
		}
		if err := sleep.For(ctx, randomPause(pause)); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// swapEntry replaces an entry by value if it is still stored. Its expiry and its tags stay.
func (s *Store) swapEntry(ctx context.Context, e entry, value any) (bool, error) {
	end := e.end
	if end.IsZero() {
		end = s.endOf(e.ttl)
	}
	replacement, err := s.replacement(ctx, e.at, value, end, e.tags)
	if err != nil {
		return false, err
	}
	done, err := s.can.swapper.CompareAndSwap(ctx, e.at.stored, e.stored, e.tail(), replacement, keepTTL)
	return done, s.backingError(err)
}

// replaceEntry replaces an entry with the expiry and the tags of plan. It returns the new bytes.
func (s *Store) replaceEntry(ctx context.Context, e entry, value any, plan writePlan) (replacement []byte, written bool, err error) {
	replacement, err = s.replacement(ctx, e.at, value, s.endOf(plan.ttl), plan.tags)
	if err != nil {
		return nil, false, err
	}
	written, err = s.can.atomic.CompareAndSet(ctx, e.at.stored, e.stored, e.tail(), replacement, plan.options...)
	return replacement, written, s.writeError(err)
}

// createOver creates an entry in place of one that counts as absent. Its results are those of createAt.
func (s *Store) createOver(ctx context.Context, e entry, value any, plan writePlan) (written, taken bool, err error) {
	created, written, err := s.replaceEntry(ctx, e, value, plan)
	if err != nil || !written || s.prfKeys() == 1 {
		return written, false, err
	}
	return s.lookAgain(ctx, e.at, created)
}

// replacement returns the bytes of a value that is swapped in.
func (s *Store) replacement(ctx context.Context, a address, value any, end time.Time, tags []string) ([]byte, error) {
	if s.policy() == WritePlaintext {
		return s.plaintextText(ctx, value)
	}
	sc := newScratch()
	defer sc.free()
	return s.seal(ctx, nil, sc, a, value, end, tags)
}

// plaintextText is writtenPlaintext as go-redis would send it.
func (s *Store) plaintextText(ctx context.Context, value any) ([]byte, error) {
	form, err := s.writtenPlaintext(ctx, value)
	if err != nil {
		return nil, err
	}
	if b, ok := form.([]byte); ok {
		return b, nil
	}
	text, _ := redistext.Of(form) // plaintextForm returns no other types
	return []byte(text), nil
}

// randomPause returns a random time below most.
func randomPause(most time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: see package crypto/rand
	return time.Duration(binary.NativeEndian.Uint64(b[:]) % uint64(most))
}
