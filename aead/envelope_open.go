package aead

import (
	"context"
	"fmt"
	"time"
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
		e.stats.hits.Add(1) // unwrapped while we came here
		return nil, key, nil
	}
	if f, ok := e.unwraps[string(header)]; ok {
		return f, nil, nil
	}
	if err := e.refused.recall(header, now); err != nil {
		e.stats.remembered.Add(1)
		return nil, nil, err
	}
	e.stats.misses.Add(1)
	turn := e.unknown.Reserve()
	wait := turn.Delay()
	if wait > unwrapPatience {
		turn.Cancel()
		e.stats.turnedAway.Add(1)
		return nil, nil, fmt.Errorf("%w: too many unknown data keys at once; is there garbage in the store?", ErrKeyServiceUnavailable)
	}
	f := &flight{done: make(chan struct{}), epoch: e.epoch}
	name := string(header)
	e.unwraps[name] = f
	e.background.Go(func() {
		ctx, cancel := e.callContext(ctx)
		defer cancel()
		key, err := e.unwrapInTurn(ctx, []byte(name), wait)
		e.endUnwrap(name, f, key, err)
	})
	return f, nil, nil
}

// unwrapInTurn waits for its turn and for one of the slots, and calls the KEK.
func (e *Envelope) unwrapInTurn(ctx context.Context, header []byte, wait time.Duration) (*dataKey, error) {
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrKeyServiceUnavailable, ended(ctx))
		}
	}
	if err := take(ctx, e.unwrapSlots); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyServiceUnavailable, err)
	}
	return e.unwrapDataKey(ctx, e.unwrapSlots, header)
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
	}
	f.key, f.err = key, err
	close(f.done)
}

// refuse drops a data key that the KEK refused to unwrap. If it is the one that seals, nobody could ever open what it
// seals from now on. e.mu is held.
func (e *Envelope) refuse(header []byte, err error) {
	e.refused.remember(header, err, e.clock.now())
	e.known.removeIf(func(k *dataKey) bool { return k.is(header) })
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
