package middleware

import (
	"context"
	"errors"
	"fmt"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
)

// Check is for start-up and readiness probes. It verifies that a sealed value
// opens again and under no other name, and that the backing store answers. It
// asks the key service as sealing any value does.
//
// If the backing store does not answer, the error is ErrStoreUnavailable. KeysFailed
// reports whether the keys are the reason of another error.
//
// Check also compares keys with the other processes of the namespace. All
// processes share one small sealed entry, the key check. It has the reserved name
// "sealcache.key-check", which Keys does not list. Check creates it without
// expiry, and renews it by a swap when the primary key has changed. With an
// envelope, the first Check always renews it, because a wrapped data key does not
// show its KEK and wrap context. Check never replaces an entry that it cannot
// open: an attacker may have planted it, or this process may have the wrong keys.
// Check logs and counts the result, and KeysDiffer returns it. Check itself does
// not return it as an error, so that a planted entry cannot stop a deployment.
func (s *Store) Check(ctx context.Context) error {
	if err := s.sealer.Check(ctx); err != nil {
		return err
	}
	if err := ping(ctx, s.backing, s.can.pinger, s.traits, s.prefix); err != nil {
		return err
	}
	s.compareKeys(ctx)
	s.logAdvice(ctx)
	return nil
}

// logAdvice logs once the backing store's advice about its server.
func (s *Store) logAdvice(ctx context.Context) {
	if s.can.adviser == nil || s.advised.Load() {
		return
	}
	advice, err := s.can.adviser.Advice(ctx)
	if err != nil || !s.advised.CompareAndSwap(false, true) {
		return
	}
	for _, text := range advice {
		s.tel.log.WarnContext(ctx, "sealcache: the backing store or its server has an unsafe setting", "advice", text)
	}
}

// Ping returns ErrStoreUnavailable if a store does not answer. It is for caches that
// are not sealed: Store.Check does the same for a sealed one. It calls the Ping of a
// Pinger. From another store it reads an entry of the namespace, which may be empty.
// As everywhere in this package, the text of the error shows no value.
func Ping(ctx context.Context, backing store.StoreInterface, namespace string) error {
	if nilcheck.IsNil(backing) {
		return errors.New("middleware: Ping: the store is nil")
	}
	if namespace != "" {
		namespace += ":"
	}
	can := capabilitiesOf(backing)
	return ping(ctx, backing, can.pinger, traitsFor(backing, can), namespace)
}

// ping is Ping for a store whose traits are known. p is nil if the store is no Pinger.
func ping(ctx context.Context, backing store.StoreInterface, p Pinger, t traits, prefix string) error {
	var err error
	if p != nil {
		err = p.Ping(ctx)
	} else {
		_, err = backing.Get(ctx, prefix+"sealcache-probe")
	}
	failed := err
	if err = t.backingError(backing, err); err == nil || isMiss(err) {
		return nil
	}
	if t.quotes { // the text of err names the store once more
		err = &withheld{causeOf(failed), err}
	}
	return fmt.Errorf("%w: %s store: %w", ErrStoreUnavailable, backing.GetType(), err)
}

// KeysFailed reports whether an error of Check, of a Store, a Sealer or a
// jobs.Encryptor, means that the keys cannot be used. The key service did not
// answer, the keys were used up or closed, or they refused the value of the test. It
// reports false if the backing store does not answer, or if the AEAD answers but does
// not encrypt.
func KeysFailed(err error) bool {
	outcome := box.Outcome(err)
	return outcome != "" && outcome != "ok" && !errors.Is(err, ErrStoreUnavailable)
}

// OtherKeyReads is Sealer.OtherKeyReads for the values that this Store, and the Stores that With made of it, have opened.
func (s *Store) OtherKeyReads() map[uint32]uint64 { return s.sealer.OtherKeyReads() }

// KeysDiffer returns the finding of the last Check or Clear that this process and
// the other processes of its namespace use different keys. It returns nil if
// there is no such finding. If the key check did not open, the error is
// ErrUnauthentic, ErrUnknownKey, ErrNotSealed or ErrUnsupportedFormat. If the
// backing store refused to read or write the key check, it is that error.
func (s *Store) KeysDiffer() error {
	if err := s.keysDiffer.Load(); err != nil {
		return *err
	}
	return nil
}

// compareKeys compares keys, and reports the result.
func (s *Store) compareKeys(ctx context.Context) {
	outcome, err := s.keyCheck(ctx)
	if outcome == "failed" && ping(ctx, s.backing, s.can.pinger, s.traits, s.prefix) != nil {
		outcome = "unavailable" // the store was closed, or its connection broke, after the ping of Check
	}
	s.tel.keyChecks.Add(ctx, 1, outcome)
	switch outcome {
	case "unavailable":
		return // the last finding stays
	case "differ":
		switch {
		case !s.tel.keysLimit.Allow():
		case box.Refused(err):
			s.tel.log.ErrorContext(ctx, "sealcache: earlier processes of this namespace used other encryption keys: the entry sealcache.key-check does not open", "error", err)
		default:
			s.tel.log.ErrorContext(ctx, "sealcache: the entry sealcache.key-check is not a key check that this release can read", "error", err)
		}
	case "failed":
		if s.tel.keysLimit.Allow() {
			s.tel.log.ErrorContext(ctx, "sealcache: the store refused to read or write the entry sealcache.key-check, which tests the encryption keys", "error", err)
		}
	}
	if err == nil {
		s.keysDiffer.Store(nil)
		return
	}
	err = fmt.Errorf("middleware: the test of the encryption keys with the entry sealcache.key-check failed: %w", err)
	s.keysDiffer.Store(&err)
}

// keyCheck reads, creates or renews the entry. It returns one of the outcomes of
// the metric sealcache.key_checks.
func (s *Store) keyCheck(ctx context.Context) (outcome string, err error) {
	v, err := s.fetchKeyCheck(ctx)
	if isMiss(err) {
		if written, err := s.createKeyCheck(ctx); written || err != nil {
			return keyOutcome("created", err), err
		}
		if s.can.setNX == nil {
			return "unsupported", nil
		}
		v, err = s.fetchKeyCheck(ctx) // another process was first
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return keyOutcome("", err), err
	}
	s.keysMade.Store(true)
	if err == nil && v.notBytes {
		err = errPlaintextRefused
	}
	if err == nil {
		err = s.keys.Open(ctx, v.raw)
	}
	if err != nil {
		return keyOutcome("", err), err
	}
	renewed, err := s.renewKeyCheck(ctx, v.raw)
	if renewed || err != nil {
		return keyOutcome("renewed", err), err
	}
	return "same", nil
}

// fetchKeyCheck reads the key check. If the backing store is a BoundedReader, the read is bounded, because an attacker
// may have planted a huge entry.
func (s *Store) fetchKeyCheck(ctx context.Context) (stored, error) {
	name := s.prefix + keycheck.Name
	if s.can.bounded == nil {
		return s.fetch(ctx, name, false)
	}
	raw, err := s.can.bounded.GetBytesMax(ctx, name, keycheck.MaxBytes)
	if isTooLarge(err) {
		return stored{}, fmt.Errorf("%w: the entry sealcache.key-check has more than %d bytes (delete the entry)", ErrTooLarge, keycheck.MaxBytes)
	}
	return stored{raw: raw, owned: true}, s.backingError(err)
}

// keyOutcome returns done, or how err failed.
func keyOutcome(done string, err error) string {
	switch {
	case err == nil:
		return done
	case box.Undecided(err):
		return "unavailable"
	case unreadable(err):
		return "differ"
	default:
		return "failed"
	}
}

func (s *Store) createKeyCheck(ctx context.Context) (bool, error) {
	if s.can.setNX == nil {
		return false, nil
	}
	sealed, err := s.keys.Seal(ctx)
	if err != nil {
		return false, err
	}
	written, err := s.can.setNX.SetIfNotExists(ctx, s.prefix+keycheck.Name, s.traits.form(sealed), store.WithExpiration(0), store.WithTags(nil))
	if written {
		s.keysMade.Store(true)
		s.keysRenewed.Store(true)
	}
	return written, s.backingError(err)
}

// renewKeyCheck seals an entry that opens under the primary key of this process.
func (s *Store) renewKeyCheck(ctx context.Context, old []byte) (bool, error) {
	if s.can.swapper == nil {
		return false, nil
	}
	sealed, err := s.keys.Seal(ctx)
	if err != nil {
		return false, err
	}
	outdated := keycheck.Outdated(old, sealed)
	if !outdated && (s.keysRenewed.Load() || !keycheck.FromEnvelope(old)) {
		return false, nil
	}
	swapped, err := s.can.swapper.CompareAndSwap(ctx, s.prefix+keycheck.Name, old, 0, sealed, keepTTL)
	// After any other failure, and after another process has changed the entry, the next Check tries again.
	if swapped || rediserr.Denied(err) {
		s.keysRenewed.Store(true)
	}
	if !outdated {
		return false, nil // a user of Redis who may only read has the right keys, too
	}
	return swapped, s.backingError(err)
}

// isKeyCheck reports whether a stored name is the name of a key check. A store
// without a namespace sees those of all namespaces.
func (s *Store) isKeyCheck(name string) bool {
	if s.prefix != "" {
		return name == s.prefix+keycheck.Name
	}
	_, ok := keycheck.Namespace(name)
	return ok
}
