package aead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

const (
	// maxKEKSet bounds the members of a KEKSet: each unknown wrapped key may be tried under all of them.
	maxKEKSet = 16
	// kekSetHedge is how long one member may take before the next is asked as well. A member that hangs would otherwise use
	// up the deadline of the call.
	kekSetHedge = time.Second
	// kekSetParallel bounds the calls to one member, those that were abandoned included.
	kekSetParallel = 64
	// kekSetPause is how long a member that could not be asked comes after the others.
	kekSetPause = 5 * time.Second
)

// KEKSet is several key-encryption keys in the place of one: the primary wraps, and each member unwraps what it wrapped. It is
// for moving from one key-encryption key to another without downtime, and for the same key in several regions. It is a KEK of
// NewEnvelope, OpenKeyring and CreateKeyset.
//
// # Which member is asked
//
// The member that wrapped or unwrapped a key is remembered for the last 16384 keys, and is asked first. For other keys, members
// of this package that call no service come first. Then come the member that last opened a similar key, the primary, and the
// others. If a member takes longer than a second, the next one is asked as well; the first plaintext wins. A member that did
// not answer, or answered an Envelope or Keyring with other bytes than a key, comes last for five seconds.
//
// # Errors
//
// Unwrapping is ErrUnauthentic or ErrUnknownKey only if every member refused. If a member could not be asked, it is
// ErrKeyServiceUnavailable. A member's refusal is remembered for 15 seconds, so that planted values which are read again do not
// reach it. Wrapping fails if the primary fails; no other member takes its place.
//
// All methods are safe for concurrent use if the members are.
type KEKSet struct {
	members []*kekSetMember // the primary first
	local   bool            // no member calls a service
	clock   *clock
	memory  kekSetMemory
}

// kekSetMember is one key of a KEKSet.
type kekSetMember struct {
	kek    tink.AEADWithContext
	index  int
	local  bool // it computes for a few microseconds
	slots  chan struct{}
	paused atomic.Int64 // until when it comes after the others

	wraps, unwraps, refusals, failures atomic.Uint64
}

// KEKSetStats counts the calls to one member of a KEKSet. A member whose Unwraps no longer grow in any process, after all values
// were sealed again, is needed no more.
type KEKSetStats struct {
	Wraps    uint64 // keys that it wrapped
	Unwraps  uint64 // keys that it unwrapped
	Refusals uint64 // keys that it refused: another member's, or planted ones
	Failures uint64 // calls that failed in any other way: outages
}

var _ KEK = (*KEKSet)(nil)

// NewKEKSet returns a KEKSet. primary wraps; primary and others unwrap. It calls none of them. A nil key, a key that is given
// twice, and more than 16 keys are errors.
func NewKEKSet(primary tink.AEADWithContext, others ...tink.AEADWithContext) (*KEKSet, error) {
	if len(others) >= maxKEKSet {
		return nil, fmt.Errorf("aead: NewKEKSet: got %d key-encryption keys (at most %d are allowed)", len(others)+1, maxKEKSet)
	}
	s := &KEKSet{local: true, clock: newClock()}
	for i, kek := range append([]tink.AEADWithContext{primary}, others...) {
		if nilcheck.IsNil(kek) {
			return nil, fmt.Errorf("aead: NewKEKSet: the key-encryption key at position %d is nil (0 is the primary)", i)
		}
		for _, m := range s.members {
			if reflect.ValueOf(kek).Comparable() && reflect.ValueOf(m.kek).Comparable() && m.kek == kek {
				return nil, fmt.Errorf("aead: NewKEKSet: the key-encryption keys at positions %d and %d (0 is the primary) are the same", m.index, i)
			}
		}
		m := &kekSetMember{kek: kek, index: i, local: isLocal(kek), slots: make(chan struct{}, kekSetParallel)}
		s.local = s.local && m.local
		s.members = append(s.members, m)
	}
	return s, nil
}

// EncryptWithContext implements tink.AEADWithContext: the primary wraps.
func (s *KEKSet) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: KEKSet: the context of the call ended: %w", ended(ctx))
	}
	m := s.members[0]
	wrapped, err := m.kek.EncryptWithContext(ctx, plaintext, associatedData)
	if err != nil {
		m.failures.Add(1)
		return nil, err
	}
	m.wraps.Add(1)
	s.memory.remember(kekSetName(wrapped, associatedData), wrapped, m.index)
	return wrapped, nil
}

// kekSetAnswer is the answer of one member.
type kekSetAnswer struct {
	member *kekSetMember
	out    []byte
	err    error
}

// DecryptWithContext implements tink.AEADWithContext: the member that wrapped unwraps.
func (s *KEKSet) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return s.decrypt(ctx, ciphertext, [][]byte{associatedData}, nil)
}

// unwrapKey calls kek for a key that was wrapped with one of these contexts. Members of a KEKSet whose answer usable rejects count
// as failed, so that the next one is asked: a proxy may have answered in place of a key service. Each member tries all contexts,
// so that a member that does not answer keeps no other one from trying them.
func unwrapKey(ctx context.Context, kek tink.AEADWithContext, wrapped []byte, contexts [][]byte, usable func([]byte) bool) ([]byte, error) {
	switch k := kek.(type) {
	case *KEKSet:
		return k.decrypt(ctx, wrapped, contexts, usable)
	case *tenantKEK:
		return k.decrypt(ctx, wrapped, contexts)
	}
	return tryContexts(contexts, func(associatedData []byte) ([]byte, error) {
		return decryptCopy(ctx, kek, wrapped, associatedData)
	})
}

// decryptCopy calls kek with copies. A KEK of an application may decrypt in place, and wrapped stays the name of a data key.
func decryptCopy(ctx context.Context, kek tink.AEADWithContext, wrapped, associatedData []byte) ([]byte, error) {
	return kek.DecryptWithContext(ctx, bytes.Clone(wrapped), bytes.Clone(associatedData))
}

// unwrapByPrimary calls kek, or the primary of a KEKSet: the key that wraps.
func unwrapByPrimary(ctx context.Context, kek tink.AEADWithContext, wrapped, associatedData []byte) (out []byte, err error) {
	switch k := kek.(type) {
	case *KEKSet:
		return unwrapByPrimary(ctx, k.members[0].kek, wrapped, associatedData)
	case *tenantKEK:
		err = k.call(ctx, func(kek tink.AEADWithContext) error {
			out, err = unwrapByPrimary(ctx, kek, wrapped, associatedData)
			return err
		})
		return out, err
	}
	return decryptCopy(ctx, kek, wrapped, associatedData)
}

var errUnusableAnswer = errors.New("the decrypted bytes are neither a keyset nor a data key of the type that WithDataKeyTemplate sets")

// decrypt is DecryptWithContext for a key that was wrapped with one of these contexts. usable is true of the key; nil means any.
func (s *KEKSet) decrypt(ctx context.Context, ciphertext []byte, contexts [][]byte, usable func([]byte) bool) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: KEKSet: the context of the call ended: %w", ended(ctx))
	}
	q := &kekSetQuestion{
		set: s, ciphertext: ciphertext, contexts: contexts, usable: usable, name: kekSetName(ciphertext, contexts...),
	}
	q.order()
	ctx, cancel := context.WithCancel(ctx)
	q.answers = make(chan kekSetAnswer, len(q.todo))
	defer q.discard()
	defer cancel()
	for len(q.todo) > 0 && ctx.Err() == nil || q.pending > 0 {
		if q.pending == 0 {
			q.ask(ctx)
		}
		out, ok := q.await(ctx)
		if ok {
			return out, nil
		}
	}
	return nil, q.failure(ctx)
}

// kekSetQuestion is one key that the members are asked to unwrap.
type kekSetQuestion struct {
	set             *KEKSet
	ciphertext      []byte
	contexts        [][]byte
	usable          func([]byte) bool // nil: any answer is
	name            kekSetKey
	todo            []*kekSetMember // in the order in which they are asked
	answers         chan kekSetAnswer
	pending         int
	refused, failed []error
}

// order plans which members are asked. A member that refused the key in the last seconds is left out.
func (q *kekSetQuestion) order() {
	s := q.set
	now := s.clock.now()
	first, likely, refused := s.memory.recall(q.name, q.ciphertext, now)
	rank := func(m *kekSetMember) int {
		switch {
		case m.index == first:
			return 0
		case m.local:
			return 1
		case now < m.paused.Load():
			return 4
		case m.index == likely:
			return 2
		}
		return 3
	}
	for want := range 5 {
		for _, m := range s.members {
			switch err := refused[m.index]; {
			case rank(m) != want:
			case err != nil:
				q.refused = append(q.refused, err)
			default:
				q.todo = append(q.todo, m)
			}
		}
	}
}

// ask asks the next member. Its answer, or that it does not come, is on q.answers.
func (q *kekSetQuestion) ask(ctx context.Context) {
	m := q.todo[0]
	q.todo = q.todo[1:]
	q.pending++
	if computes(m.kek) { // it cannot hang
		out, err := unwrapKey(ctx, m.kek, q.ciphertext, q.contexts, q.usable)
		q.answers <- kekSetAnswer{m, out, err}
		return
	}
	go func() {
		a := kekSetAnswer{member: m}
		if a.err = take(ctx, m.slots); a.err == nil {
			a.out, a.err = callKEK(ctx, releaser(m.slots), func() ([]byte, error) {
				return unwrapKey(ctx, m.kek, q.ciphertext, q.contexts, q.usable)
			})
		}
		q.answers <- a
	}()
}

// await waits for one answer. If none comes for a second, it asks the next member.
func (q *kekSetQuestion) await(ctx context.Context) (out []byte, ok bool) {
	select {
	case a := <-q.answers:
		return q.take(a)
	default:
	}
	hedge := time.NewTimer(kekSetHedge)
	defer hedge.Stop()
	select {
	case a := <-q.answers:
		return q.take(a)
	case <-hedge.C:
		if len(q.todo) > 0 && ctx.Err() == nil {
			q.ask(ctx)
		}
		return nil, false
	}
}

// take notes an answer, and reports whether it is the plaintext.
func (q *kekSetQuestion) take(a kekSetAnswer) (out []byte, ok bool) {
	q.pending--
	s, m := q.set, a.member
	if a.err == nil && q.usable != nil && !q.usable(a.out) {
		clear(a.out)
		a.err = errUnusableAnswer
	}
	switch {
	case a.err == nil:
		m.unwraps.Add(1)
		m.paused.Store(0)
		s.memory.remember(q.name, q.ciphertext, m.index)
		return a.out, true
	case isRefusal(a.err):
		m.refusals.Add(1)
		m.paused.Store(0)
		if !m.local {
			s.memory.refuse(q.name, m.index, a.err, s.clock.now())
		}
		q.refused = append(q.refused, a.err)
	default:
		m.failures.Add(1)
		m.paused.Store(s.clock.now() + int64(kekSetPause))
		q.failed = append(q.failed, fmt.Errorf("the key-encryption key at position %d (0 is the primary) failed: %w", m.index, withoutPrefix(a.err)))
	}
	return nil, false
}

// discard clears answers that come too late. ctx has ended, so they come soon.
func (q *kekSetQuestion) discard() {
	if q.pending == 0 {
		return
	}
	go func() {
		for range q.pending {
			clear((<-q.answers).out)
		}
	}()
}

// failure is a refusal only if every member refused.
func (q *kekSetQuestion) failure(ctx context.Context) error {
	if ctx.Err() != nil {
		q.failed = append(q.failed, ended(ctx))
	}
	if len(q.failed) > 0 {
		err := errors.Join(q.failed...)
		if slices.ContainsFunc(q.failed, func(err error) bool { return !errors.Is(err, errKeysetRefused) }) {
			err = &undecidedError{err}
		}
		return fmt.Errorf("%w: no key of the KEKSet decrypted the ciphertext: %w", ErrKeyServiceUnavailable, err)
	}
	// ErrUnauthentic means that no other key opens it, so it is worth more than the others' ErrUnknownKey.
	definite := slices.DeleteFunc(slices.Clone(q.refused), func(err error) bool { return !errors.Is(err, ErrUnauthentic) })
	if len(definite) == 0 {
		definite = slices.Clone(q.refused)
	}
	for i, err := range definite {
		definite[i] = withoutPrefix(err)
	}
	return fmt.Errorf("aead: KEKSet: all %d key-encryption keys refuse the ciphertext: %w", len(q.refused), errors.Join(definite...))
}

// undecidedError is the error of members of which at least one did not answer. It might open the ciphertext, so errors.Is does
// not find errKeysetRefused of another member.
type undecidedError struct{ err error }

func (e *undecidedError) Error() string { return e.err.Error() }

func (e *undecidedError) Is(target error) bool {
	return target != errKeysetRefused && errors.Is(e.err, target)
}

func (e *undecidedError) As(target any) bool { return errors.As(e.err, target) }

// Stats returns the counts of each member, the primary first.
func (s *KEKSet) Stats() []KEKSetStats {
	stats := make([]KEKSetStats, len(s.members))
	for i, m := range s.members {
		stats[i] = KEKSetStats{m.wraps.Load(), m.unwraps.Load(), m.refusals.Load(), m.failures.Load()}
	}
	return stats
}

// onReload calls f after a member's keyset has changed, and forgets the earlier answers of all members.
func (s *KEKSet) onReload(f func()) (cancel func()) {
	var cancels []func()
	for _, m := range s.members {
		if k, ok := m.kek.(reloading); ok {
			cancels = append(cancels, k.onReload(func() {
				s.memory.forget()
				f()
			}))
		}
	}
	return func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

// Close closes the members that are an io.Closer, such as those of OpenKEK. If others share a member, close the members
// instead: a KEKSet itself holds nothing.
func (s *KEKSet) Close() error {
	var errs []error
	for _, m := range s.members {
		if c, ok := m.kek.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// String shows how many members there are.
func (s *KEKSet) String() string { return fmt.Sprintf("aead.KEKSet(%d keys)", len(s.members)) }

// GoString returns String.
func (s *KEKSet) GoString() string { return s.String() }

// LogValue returns String.
func (s *KEKSet) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Format writes String, for every verb: %d and %x would print the members.
func (s *KEKSet) Format(f fmt.State, _ rune) { writeString(f, s) }
