package aead

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// openUnproved opens a payload under a data key that no value has proved. If the payload does not open, the KEK may have
// answered with a wrong data key, and is asked once more.
func (e *Envelope) openUnproved(ctx context.Context, key *dataKey, payload, associatedData []byte) ([]byte, error) {
	opened, err := key.prim.openTo(nil, payload, associatedData, false)
	if err != nil && e.doubts && !key.proved.Load() && e.clock.now() >= key.settled.Load() {
		again, askErr := e.awaitDataKey(ctx, key.header, payload, key)
		if askErr != nil {
			return nil, askErr
		}
		if !again.same(key) {
			key = again
			opened, err = key.prim.openTo(nil, payload, associatedData, false)
		}
	}
	if err != nil {
		return nil, err
	}
	e.proved(key)
	return opened, nil
}

// proved notes that a value has authenticated under a data key.
func (e *Envelope) proved(key *dataKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || key.epoch != e.epoch || key.proved.Load() {
		return
	}
	if e.known.prove(key) {
		e.gate.recordForm(key.header, true)
	}
}

// awaitDataKey has a data key unwrapped, or joins the callers that wait for it. A data key that is held, fresh and
// other than doubted is returned at once. payload is the payload of the value that needs the data key.
func (e *Envelope) awaitDataKey(ctx context.Context, header, payload []byte, doubted *dataKey) (*dataKey, error) {
	f, key, err := e.joinUnwrap(ctx, header, payload, doubted)
	if f == nil {
		return key, err
	}
	select {
	case <-f.done:
		if errors.Is(f.err, ErrTooManyDataKeys) {
			e.stats.turnedAway.Add(1)
		}
		return f.key, f.err
	case <-ctx.Done():
	}
	err = e.leaveUnwrap(f, header)
	if errors.Is(err, ErrTooManyDataKeys) {
		e.stats.turnedAway.Add(1)
	}
	return nil, fmt.Errorf("%w: the context of the call ended before the data key was decrypted: %w", err, ended(ctx))
}

func (e *Envelope) joinUnwrap(ctx context.Context, header, payload []byte, doubted *dataKey) (*flight, *dataKey, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, ErrClosed
	}
	now := e.clock.now()
	switch key := e.known.lookup(header); {
	case key == nil || !key.fresh(now, e.ttl):
	case doubted == nil:
		e.stats.hits.inc() // unwrapped since the caller looked
		return nil, key, nil
	case key != doubted || now < doubted.settled.Load():
		return nil, key, nil
	}
	if f, ok := e.unwraps[string(header)]; ok && e.gate.saw(f.request, payload) {
		f.waiting++
		return f, nil, nil
	}
	if err := e.refused.recall(header, now); err != nil {
		e.stats.remembered.Add(1)
		return nil, nil, err
	}
	if doubted == nil {
		e.stats.misses.Add(1)
	}
	request, err := e.gate.join(header, payload)
	if err != nil {
		if errors.Is(err, ErrTooManyDataKeys) {
			e.stats.turnedAway.Add(1)
		}
		return nil, nil, err
	}
	callCtx, cancel := e.callContext(ctx)
	f := &flight{done: make(chan struct{}), epoch: e.epoch, waiting: 1, cancel: cancel, request: request, doubted: doubted}
	name := string(header)
	e.unwraps[name] = f
	e.background.Go(func() {
		defer cancel()
		key, err := e.unwrapAdmitted(callCtx, request, []byte(name))
		e.endUnwrap(name, f, key, err)
	})
	return f, nil, nil
}

// leaveUnwrap ends the wait of one caller, and returns the reason for the wait. A data key without a waiting caller
// leaves the queue, so the queue is never longer than the number of readers. A call to the KEK that has begun
// continues. Otherwise readers with short deadlines would never get their data key from a slow key service.
func (e *Envelope) leaveUnwrap(f *flight, header []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.waiting--
	had, reason := e.gate.leave(f.request, f.waiting == 0)
	if !had && f.waiting == 0 {
		f.cancel()
		if e.unwraps[string(header)] == f {
			delete(e.unwraps, string(header))
		}
	}
	return reason
}

// isLocal reports whether a KEK computes its answer in a few microseconds, without calling a service. Only types of
// this package are known to do so. A type that wraps one of them may do anything.
func isLocal(kek tink.AEADWithContext) bool {
	switch k := kek.(type) {
	case *Keyring, localAEAD, *passphraseKEK:
		return true
	case *KEKSet:
		return k.local
	}
	return false
}

// computes reports whether a KEK is of this package and computes its answer, so that its answer is never another key's.
func computes(kek tink.AEADWithContext) bool {
	switch k := kek.(type) {
	case *Keyring, *passphraseKEK:
		return true
	case *KEKSet:
		return !slices.ContainsFunc(k.members, func(m *kekSetMember) bool { return !computes(m.kek) })
	}
	return false
}

// unwrapsAtATime returns how many unknown data keys are unwrapped at a time. A KEK that computes uses at most half of the
// processors, so that reads of planted values leave the others to known data keys. A localAEAD may be slow against its
// contract, so it keeps all calls.
func unwrapsAtATime(kek tink.AEADWithContext) int {
	switch kek.(type) {
	case *Keyring, *passphraseKEK:
		return min(max(runtime.GOMAXPROCS(0)/2, 1), unwrapParallel)
	}
	return unwrapParallel
}

// boundsCalls reports whether a KEK bounds its own calls, those that were abandoned included. A KEKSet does, for each member.
func boundsCalls(kek tink.AEADWithContext) bool {
	if k, ok := kek.(*tenantKEK); ok {
		kek, _ = k.opened()
	}
	_, ok := kek.(*KEKSet)
	return ok
}

// unwrapAdmitted waits until the gate admits the data key, and calls the KEK.
func (e *Envelope) unwrapAdmitted(ctx context.Context, t *unwrapRequest, header []byte) (*dataKey, error) {
	if err := e.gate.wait(ctx, t); err != nil {
		return nil, err
	}
	key, err := e.unwrap(ctx, e.gate.release, header)
	e.gate.ended(t, err == nil || isRefusal(err))
	return key, err
}

func (e *Envelope) endUnwrap(name string, f *flight, key *dataKey, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unwraps[name] == f {
		delete(e.unwraps, name)
	}
	switch {
	case e.closed:
		key, err = nil, ErrClosed
	case err == nil:
		key.epoch = f.epoch
		if f.epoch == e.epoch { // otherwise the KEK was reloaded: the answer was true when asked, and is not kept
			key, err = e.hold(key, true)
		}
		if err == nil && f.doubted != nil && key.same(f.doubted) {
			until := e.clock.now() + int64(refusalMemory)
			key.settled.Store(until)
			f.doubted.settled.Store(until)
		}
	case f.epoch == e.epoch && isRefusal(err):
		e.refuse([]byte(name), err)
	}
	f.key, f.err = key, err
	close(f.done)
}

var errOtherDataKey = errors.New("the key service decrypted the same bytes to a different data key this time (check the key service)")

// hold keeps an unwrapped data key, or extends the same one that is held. It fails if a different data key is proved
// under this header, because the KEK then answered wrongly. token reports whether the call took a token of the gate.
// e.mu is held.
func (e *Envelope) hold(key *dataKey, token bool) (*dataKey, error) {
	held := e.known.lookup(key.header)
	if current := e.current.Load(); current != nil && current.is(key.header) {
		held = current
	}
	if held == nil || !held.proved.Load() {
		return e.known.insert(key), nil
	}
	if !held.same(key) {
		e.stats.unwrapFailures.Add(1)
		return nil, kekError(unwrapDataKey, errOtherDataKey)
	}
	held.confirm(key.confirmed.Load())
	e.gate.recordForm(key.header, token)
	return e.known.insert(held), nil
}

// refuse drops a data key that the KEK refused to unwrap. If this data key seals, it is retired: no process could
// open its later messages. e.mu is held.
func (e *Envelope) refuse(header []byte, err error) {
	e.refused.remember(header, err, e.clock.now())
	e.known.remove(header)
	if current := e.current.Load(); current != nil && current.is(header) && !current.retired.Swap(true) {
		current.confirmed.Store(never)
		e.log.Error("sealcache: the KEK refuses the current data key, so its values do not open (restore the KEK); a new one is made", "error", err)
	}
}

// usable reports whether a KEK may have unwrapped these bytes.
func (e *Envelope) usable(unwrapped []byte) bool {
	return isAnyDataKey(e.template.GetTypeUrl(), unwrapped)
}

// unwrap calls the KEK and makes a data key of its answer. release is called when the call has returned.
func (e *Envelope) unwrap(ctx context.Context, release func(), header []byte) (*dataKey, error) {
	release = releaseSlow(release, slowCall, func() bool { return boundsCalls(e.kek) })
	asked := e.clock.now() // before the call: the KEK may change its mind while the answer travels
	serialized, err := callKEK(ctx, release, func() ([]byte, error) {
		return unwrapKey(ctx, e.kek, header[wrappedLenSize:], e.contexts.open, e.usable)
	})
	defer clear(serialized)
	var key *dataKey
	if err != nil {
		err = kekError(unwrapDataKey, err)
	} else if key, err = newDataKey(e.template.GetTypeUrl(), serialized, header, false); err != nil && isTenantDataKey(e.template.GetTypeUrl(), serialized) {
		err = errOtherTenant
	} else if err != nil {
		// The KEK did not refuse. A proxy may have answered in its place.
		err = fmt.Errorf("%w: %w", ErrKeyServiceUnavailable, err)
	}
	switch {
	case err == nil:
		e.stats.unwraps.Add(1)
		key.tenant = e.known.tenant
		key.confirmed.Store(asked)
		return key, nil
	case isRefusal(err):
		e.stats.refusals.Add(1)
	default:
		e.stats.unwrapFailures.Add(1)
	}
	return nil, err
}

// startReview asks the KEK in the background whether a data key in use may still be used. No caller waits for the
// answer. The same data key extends it, a refusal drops it, and a failure changes nothing. A different data key
// replaces one that no value has proved.
func (e *Envelope) startReview(ctx context.Context, key *dataKey) {
	if !key.confirming.CompareAndSwap(false, true) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	release, ok := e.reviewSlot(key)
	if !ok {
		key.confirming.Store(false) // the next message tries again
		return
	}
	epoch := e.epoch
	e.background.Go(func() {
		ctx, cancel := e.callContext(ctx)
		defer cancel()
		again, err := e.unwrap(ctx, release, key.header)

		e.mu.Lock()
		defer e.mu.Unlock()
		defer key.confirming.Store(false)
		if e.closed || e.epoch != epoch {
			return
		}
		if err == nil {
			again.epoch = epoch
			_, err = e.hold(again, false)
		}
		switch {
		case isRefusal(err):
			e.refuse(key.header, err)
		case err != nil:
			pause := max(min(e.ttl/32, int64(time.Minute)), int64(100*time.Millisecond))
			key.nextConfirm.Store(e.clock.now() + pause)
			if errors.Is(err, errOtherDataKey) {
				key.renew.Store(true)
				e.log.ErrorContext(ctx, "sealcache: the key service decrypted the same bytes to a different data key (check the service); the first stays in use", "error", err)
			}
		}
	})
}

// reviewSlot reserves a slot for a review, without waiting. A review of a data key that no value has proved needs a
// token too. e.mu is held.
func (e *Envelope) reviewSlot(key *dataKey) (release func(), ok bool) {
	if e.closed || !key.proved.Load() && !e.gate.take() {
		return nil, false
	}
	select {
	case e.reviewSlots <- struct{}{}:
		return releaser(e.reviewSlots), true
	default:
		return nil, false
	}
}
