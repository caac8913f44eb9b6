package aead

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tink-crypto/tink-go/v2/core/registry"
)

const (
	firstWrapBackoff = 100 * time.Millisecond
	maxWrapBackoff   = 5 * time.Second
)

// startSuccessor begins to make the next data key in the background, unless that has begun.
func (e *Envelope) startSuccessor(ctx context.Context, key *dataKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.wrapping != nil || e.current.Load() != key || e.clock.now() < e.nextWrap.Load() {
		return
	}
	e.startWrap(ctx)
}

// awaitSuccessor waits until a data key other than the retired key is in service.
func (e *Envelope) awaitSuccessor(ctx context.Context, key *dataKey) error {
	e.mu.Lock()
	switch {
	case e.closed || e.kek == nil: // a zero value would panic in a goroutine without a caller
		e.mu.Unlock()
		return ErrClosed
	case e.current.Load() != key:
		e.mu.Unlock()
		return nil
	case e.wrapping == nil && e.wrapErr != nil && e.clock.now() < e.nextWrap.Load():
		// Otherwise many writers would call a key service that is down as many times.
		err := e.wrapErr
		e.mu.Unlock()
		return err
	}
	f := e.wrapping
	if f == nil {
		f = e.startWrap(ctx)
	}
	e.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("%w: the context of the call ended before a new data key was ready: %w", ErrKeyServiceUnavailable, ended(ctx))
	}
}

// startWrap begins to make a data key. e.mu is held, the Envelope is open, and no data key is being made.
func (e *Envelope) startWrap(ctx context.Context) *flight {
	f := &flight{done: make(chan struct{})}
	e.wrapping = f
	e.nextWrap.Store(math.MaxInt64) // sealing does not ask before this one has ended
	e.background.Go(func() {
		ctx, cancel := e.detach(ctx)
		defer cancel()
		for !e.wrap(ctx, f) {
		}
		close(f.done)
	})
	return f
}

// wrap makes a data key and puts it into service. It returns false if the KEK was reloaded during that: the data key may be
// wrapped under a key that is gone, and is dropped.
func (e *Envelope) wrap(ctx context.Context, f *flight) (done bool) {
	e.mu.Lock()
	epoch := e.epoch
	e.mu.Unlock()
	key, err := e.newDataKey(ctx, epoch)

	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		f.err = ErrClosed
	case e.epoch != epoch:
		return false
	case err != nil:
		f.err = err
		e.wrapErr = err
		// An abandoned call still holds its slot. A KEK that never returns is called less and less often, and no more
		// when all slots are held.
		wait := backoff(e.wrapFails) + time.Duration(len(e.wrapSlots))*maxWrapBackoff
		e.wrapFails++
		e.nextWrap.Store(e.clock.now() + int64(wait))
		e.log.WarnContext(ctx, "sealcache: cannot make a new data key; sealing continues only while the current one is usable", "failures", e.wrapFails, "retry_after", wait, "error", err)
	default:
		e.install(key)
		e.log.DebugContext(ctx, "sealcache: made a new data key", "type", shortType(e.template.GetTypeUrl()))
	}
	e.wrapping = nil
	return true
}

// backoff returns how long to wait after so many failures: from 0.1 s doubling to 5 s, less up to a fifth. Processes
// that lost a key service together then do not call it again at the same moment.
func backoff(failures int) time.Duration {
	wait := min(firstWrapBackoff<<min(failures, 10), maxWrapBackoff)
	var b [1]byte
	rand.Read(b[:])
	return wait - wait/5*time.Duration(b[0])/256
}

// install puts a data key into service, for sealing and for opening. The previous one stays for opening. e.mu is
// held.
func (e *Envelope) install(key *dataKey) {
	if old := e.current.Load(); old != nil && old.fresh(e.clock.now(), e.ttl) {
		e.known.insert(old)
	}
	e.known.insert(key)
	e.gate.recordForm(key.header, false)
	e.current.Store(key)
	e.wrapFails, e.wrapErr = 0, nil
	e.nextWrap.Store(0)
}

// newDataKey makes a data key, has it wrapped, and proves it: the KEK unwraps it again, and the result must be the same. A KEK
// may answer a wrap with anything, such as the error page of a proxy; values sealed under it would be lost. epoch was read before.
func (e *Envelope) newDataKey(ctx context.Context, epoch uint64) (*dataKey, error) {
	data, err := registry.NewKeyData(e.template)
	if err != nil {
		return nil, fmt.Errorf("aead: WithDataKeyTemplate: Tink refuses the template (use Tink's AES256GCMKeyTemplate): %w", err)
	}
	serialized := data.GetValue()
	defer clear(serialized)
	key, err := newDataKey(e.template.GetTypeUrl(), serialized, nil, true)
	if err != nil {
		return nil, errDataKeyTemplate
	}
	if key.prim.overhead == 0 {
		key.prim.overhead = e.overhead
	}
	key.tenant = e.known.tenant
	key.born = e.clock.now() // before the call, so that its duration counts
	wrapped, err := e.wrapByKEK(ctx, bytes.Clone(serialized))
	if err == nil && bytes.Contains(wrapped, serialized) {
		err = errors.New("the key-encryption key does not encrypt: the ciphertext contains the data key (use another key)")
	}
	if err == nil {
		key.header, err = dataKeyHeader(wrapped)
	}
	if err != nil {
		e.stats.wrapFailures.Add(1)
		return nil, wrapError(wrapDataKey, err)
	}
	e.stats.wraps.Add(1)
	if err := e.proveByKEK(ctx, key); err != nil {
		return nil, wrapError(testDataKey, err)
	}
	if err := e.proveContext(ctx, key, epoch); err != nil {
		return nil, err
	}
	key.proved.Store(true)
	key.confirmed.Store(key.born)
	return key, nil
}

// wrapByKEK calls the KEK. It clears plaintext when the call has returned, which may be long after it was abandoned.
func (e *Envelope) wrapByKEK(ctx context.Context, plaintext []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, kekTimeout, errNoAnswer)
	defer cancel()
	if err := take(ctx, e.wrapSlots); err != nil {
		clear(plaintext)
		return nil, err
	}
	return callKEK(ctx, releaser(e.wrapSlots), func() ([]byte, error) {
		defer clear(plaintext)
		return e.kek.EncryptWithContext(ctx, plaintext, bytes.Clone(e.contexts.wrap))
	})
}

// proveByKEK asks the KEK to unwrap a data key that it has wrapped, and compares the result.
func (e *Envelope) proveByKEK(ctx context.Context, key *dataKey) error {
	ctx, cancel := context.WithTimeoutCause(ctx, kekTimeout, errNoAnswer)
	defer cancel()
	if err := take(ctx, e.wrapSlots); err != nil {
		return err
	}
	unwrapped, err := e.unwrap(ctx, releaser(e.wrapSlots), key.header)
	switch {
	case isRefusal(err):
		return fmt.Errorf("the KEK encrypted a new data key and then rejected the encrypted data key as invalid: %w", withoutPrefix(err))
	case err == nil && !unwrapped.same(key), errors.Is(err, errNotDataKey):
		return errors.New("the KEK encrypted a new data key and decrypted it to something else (check the key service)")
	}
	return err
}

// proveContext asks the KEK to unwrap the first data key, and the first one after a reload of the KEK, with a context other than
// its own. The KEK must refuse. Of a KEKSet only the primary is asked, because no other member wrapped key. epoch is that of the
// KEK that wrapped key.
func (e *Envelope) proveContext(ctx context.Context, key *dataKey, epoch uint64) error {
	e.mu.Lock()
	proved := e.contextProved
	e.mu.Unlock()
	if len(e.contexts.wrap) == 0 || proved {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, kekTimeout, errNoAnswer)
	defer cancel()
	if err := take(ctx, e.wrapSlots); err != nil {
		return wrapError(testContext, err)
	}
	unwrapped, err := callKEK(ctx, releaser(e.wrapSlots), func() ([]byte, error) {
		return unwrapByPrimary(ctx, e.kek, key.header[wrappedLenSize:], append([]byte("not "), e.contexts.wrap...))
	})
	clear(unwrapped)
	switch {
	case err == nil:
		return fmt.Errorf("%w: the key service ignores the wrap context of WithWrapContext (use another service)", ErrKeyServiceUnavailable)
	case !isRefusal(err):
		return wrapError(testContext, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.contextProved = e.epoch == epoch // otherwise another keyset refused an unknown key
	return nil
}

// wrapError turns every failure to make a data key into an outage. Even a refusal says nothing about any value.
func wrapError(action string, err error) error {
	if errors.Is(err, ErrUnknownTenant) {
		return within("cannot "+action, err)
	}
	err = withoutRefusal(err)
	if errors.Is(err, ErrKeyServiceUnavailable) {
		return within("cannot "+action, err)
	}
	return unavailable("cannot "+action, err)
}

// kekChanged is called when the keyset that wraps the data keys was replaced. From then on, messages open only if the new
// keyset unwraps their data keys. Messages are not sealed under a data key of the old one.
func (e *Envelope) kekChanged() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.epoch++
	e.contextProved = false
	e.unwraps = make(map[string]*flight) // those under way serve their callers, and are not kept
	e.refused.forget()
	e.known.clear()
	old := e.current.Load()
	if old == nil {
		e.mu.Unlock()
		return
	}
	old.confirmed.Store(never)
	f := e.wrapping
	if f == nil {
		f = e.startWrap(context.Background())
	}
	e.mu.Unlock()
	<-f.done // the keyset is local: this takes microseconds; a type around it has kekTimeout
	if f.err == nil || e.current.Load() != old {
		return
	}
	// No new data key: the old one stays only if it can still be unwrapped.
	ctx, cancel := e.callContext(context.Background())
	defer cancel()
	if take(ctx, e.reviewSlots) != nil {
		return
	}
	_, err := e.unwrap(ctx, releaser(e.reviewSlots), old.header)
	// The primary of a KEKSet wrapped the old data key. If the primary is refused, an outage of another member saves nothing.
	primaryRefused := errors.Is(f.err, errKeysetRefused)
	if isRefusal(err) || errors.Is(err, errKeysetRefused) || err != nil && primaryRefused {
		old.retired.Store(true)
	}
}
