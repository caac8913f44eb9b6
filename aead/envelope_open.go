package aead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// awaitDataKey has an unknown data key unwrapped, or joins those who wait for it.
func (e *Envelope) awaitDataKey(ctx context.Context, header []byte) (*dataKey, error) {
	f, key, err := e.joinUnwrap(ctx, header)
	if key != nil || err != nil {
		return key, err
	}
	select {
	case <-f.done:
		return f.key, f.err
	case <-ctx.Done():
		e.leaveUnwrap(f, header)
		return nil, fmt.Errorf("%w: waiting for a data key to be unwrapped: %w", ErrKeyServiceUnavailable, ended(ctx))
	}
}

func (e *Envelope) joinUnwrap(ctx context.Context, header []byte) (*flight, *dataKey, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, ErrClosed
	}
	now := e.clock.now()
	if key := e.known.lookup(header); key != nil && key.fresh(now, e.ttl) {
		e.stats.hits.inc() // unwrapped while we came here
		return nil, key, nil
	}
	if f, ok := e.unwraps[string(header)]; ok {
		f.waiting++
		return f, nil, nil
	}
	if err := e.refused.recall(header, now); err != nil {
		e.stats.remembered.Add(1)
		return nil, nil, err
	}
	e.stats.misses.Add(1)
	g := e.gateOf(header)
	if err := g.enter(); err != nil {
		e.stats.turnedAway.Add(1)
		return nil, nil, err
	}
	callCtx, cancel := e.callContext(ctx)
	f := &flight{done: make(chan struct{}), epoch: e.epoch, waiting: 1, cancel: cancel}
	name := string(header)
	e.unwraps[name] = f
	e.background.Go(func() {
		defer cancel()
		key, err := e.unwrapInTurn(callCtx, g, f, []byte(name))
		e.endUnwrap(name, f, key, err)
	})
	return f, nil, nil
}

// leaveUnwrap is called by who no longer waits. A data key that nobody waits for leaves the queue, so that there are no
// more in it than there are readers; but a call to the KEK that has begun goes on, or readers with less patience than
// the key service needs would never get to their data key.
func (e *Envelope) leaveUnwrap(f *flight, header []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.waiting--
	if f.waiting > 0 || f.called {
		return
	}
	f.cancel()
	if e.unwraps[string(header)] == f {
		delete(e.unwraps, string(header))
	}
}

// gateOf returns the gate that a data key passes.
func (e *Envelope) gateOf(header []byte) *gate {
	if answersItself(e.kek, header[wrappedLenSize:]) {
		return e.local
	}
	return e.remote
}

// answersItself tells whether a KEK answers a ciphertext by computing for a few microseconds, without calling anybody.
// Only types of this package are known to: what wraps one of them may do anything on the way.
func answersItself(kek tink.AEADWithContext, ciphertext []byte) bool {
	switch kek := kek.(type) {
	case *Keyring, localAEAD:
		return true
	case *passphraseKEK:
		return kek.answersItself(ciphertext)
	}
	return false
}

// unwrapInTurn waits until the gate lets it through, and calls the KEK.
func (e *Envelope) unwrapInTurn(ctx context.Context, g *gate, f *flight, header []byte) (*dataKey, error) {
	if err := g.pass(ctx, e.clock); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyServiceUnavailable, err)
	}
	e.mu.Lock()
	f.called = f.waiting > 0
	e.mu.Unlock()
	if !f.called {
		g.turnBack()
		return nil, errNoTurn
	}
	key, err := e.unwrapDataKey(ctx, g.slots, header)
	if err == nil {
		g.succeeded()
	}
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
	case f.epoch != e.epoch: // the KEK was reloaded: true when asked, not to be kept
	case err == nil:
		e.known.insert(key)
		if current := e.current.Load(); current.is(key.header) {
			confirm(current, key.confirmed.Load())
		}
	case isRefusal(err):
		e.refuse([]byte(name), err)
	case errors.Is(err, errNoTurn) && f.waiting > 0:
		e.stats.turnedAway.Add(1)
	}
	f.key, f.err = key, err
	close(f.done)
}

// refuse drops a data key that the KEK refused to unwrap. If it is the one that seals, nobody could ever open what it
// seals from now on. e.mu is held.
func (e *Envelope) refuse(header []byte, err error) {
	e.refused.remember(header, err, e.clock.now())
	e.known.remove(header)
	if current := e.current.Load(); current != nil && current.is(header) && !current.retired.Swap(true) {
		current.confirmed.Store(never)
		e.log.Error("sealcache: the key-encryption key no longer unwraps the data key in use; a new one is made", "error", err)
	}
}

// unwrapDataKey calls the KEK, for which one of slots has been taken, and makes a key of its answer.
func (e *Envelope) unwrapDataKey(ctx context.Context, slots <-chan struct{}, header []byte) (*dataKey, error) {
	asked := e.clock.now() // before the call: the KEK may change its mind while the answer travels
	serialized, err := e.unwrap(ctx, slots, header)
	if err != nil {
		return nil, err
	}
	defer clear(serialized)
	prim, err := dataKeyPrimitive(e.template.GetTypeUrl(), serialized, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthentic, err)
	}
	key := &dataKey{header: header, prim: prim}
	key.confirmed.Store(asked)
	return key, nil
}

// unwrap calls the KEK, for which one of slots has been taken.
func (e *Envelope) unwrap(ctx context.Context, slots <-chan struct{}, header []byte) ([]byte, error) {
	serialized, err := callKEK(ctx, slots, func() ([]byte, error) {
		return e.kek.DecryptWithContext(ctx, header[wrappedLenSize:], []byte{})
	})
	if err == nil {
		e.stats.unwraps.Add(1)
		return serialized, nil
	}
	err = kekError("unwrapping a data key", err)
	if isRefusal(err) {
		e.stats.refusals.Add(1)
	} else {
		e.stats.unwrapFailures.Add(1)
	}
	return nil, err
}

// confirm extends a data key, and never shortens it.
func confirm(key *dataKey, at int64) {
	for {
		old := key.confirmed.Load()
		if old >= at || key.confirmed.CompareAndSwap(old, at) {
			return
		}
	}
}

// startReview asks the KEK in the background whether a data key in use may still be used. Nobody waits for the answer:
// yes extends it, no drops it, and silence changes nothing.
func (e *Envelope) startReview(ctx context.Context, key *dataKey) {
	if !key.confirming.CompareAndSwap(false, true) {
		return
	}
	select {
	case e.reviewSlots <- struct{}{}:
	default:
		key.confirming.Store(false) // the next message tries again
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		<-e.reviewSlots
		key.confirming.Store(false)
		return
	}
	epoch := e.epoch
	e.background.Go(func() {
		ctx, cancel := e.callContext(ctx)
		defer cancel()
		again, err := e.unwrapDataKey(ctx, e.reviewSlots, key.header)

		e.mu.Lock()
		defer e.mu.Unlock()
		switch {
		case e.closed || e.epoch != epoch:
		case err == nil:
			confirm(key, again.confirmed.Load())
			e.known.insert(key)
		case isRefusal(err):
			e.refuse(key.header, err)
		default:
			pause := max(min(e.ttl/32, int64(time.Minute)), int64(100*time.Millisecond))
			key.nextConfirm.Store(e.clock.now() + pause)
		}
		key.confirming.Store(false)
	})
}
