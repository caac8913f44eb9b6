package aead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Envelope is envelope encryption with data keys that are used for many messages. It makes a data key (DEK), has the
// key-encryption key (KEK) wrap it, seals messages under it, and puts the wrapped DEK in front of each. The bytes are
// those of Tink's KMS envelope: what one seals the other opens, given the KEK and the same type of data key.
//
// # Sealing
//
// The first data key is made by NewEnvelope. It is retired before any of its limits: WithMaxMessages, WithMaxBytes,
// WithMaxAge. From three quarters of any of them on, the next message makes its successor in the background, and the
// present key goes on until the successor is there. So no request waits for the key service, but the first one after
// idling past the maximum age. If the key service is down, sealing goes on under the present key until a limit, which
// is never passed; then it fails with ErrKeyServiceUnavailable until the service is back. Attempts are spaced out, up
// to five seconds, however many writers there are. Each process, and each Envelope, makes its own data keys.
//
// # Opening
//
// Unwrapped data keys are kept (WithDataKeyCache) for a time (WithDataKeyTTL). A data key that is not known is
// unwrapped once, however many callers wait for it; each waits no longer than its context allows, and one that gives
// up does not fail the others. Messages under known data keys never wait behind it.
//
// Garbage in the store cannot become a storm of calls. The KEK is asked for 16 unknown data keys at a time, and 4096
// wait; what comes beyond that fails at once with ErrKeyServiceUnavailable. Calls that the KEK does not answer with a
// data key are limited, past a burst of 1024, to 100 a second; those that it does answer so are not. A definite refusal
// is remembered for 15 seconds; an outage is not, and is over when it is over. Under a *Keyring or what WithContext
// returns, which call nobody, only the number at a time is limited; a type that wraps one of them is treated like a key
// service.
//
// # Errors
//
// ErrUnauthentic, or ErrUnknownKey, if the message, or the KEK, definitely says no; ErrKeyServiceUnavailable if the KEK
// fails in any other way. What the KEK itself said, and context errors, are found by errors.Is and errors.As.
//
// # Reload and shredding
//
// If the KEK is a *Keyring, or a struct that embeds one, its Reload empties the Envelope's data keys at once and makes a
// new one under the new primary key. With any other KEK, also one that holds a *Keyring without embedding it,
// WithDataKeyTTL is the delay after which a destroyed KEK takes effect.
//
// # Calls to the KEK
//
// Each carries a deadline of ten seconds at most. A KEK that ignores its context is abandoned after them: neither
// callers nor Close wait for it. Such a call ends in its own time and counts as under way until then; at most 8 calls to
// wrap, 16 to unwrap and 8 to confirm are. The KEK must be safe for concurrent use. A call that one caller started
// serves all, so it gets the values of that caller's context, and not its cancellation.
type Envelope struct {
	kek        tink.AEADWithContext
	template   *tinkpb.KeyTemplate
	hard, soft limits
	ttl        int64
	overhead   int // bytes that a data key adds to a message
	minPayload int // no message has fewer after its wrapped data key
	log        *slog.Logger
	clock      *clock
	stats      envelopeCounters

	current  atomic.Pointer[dataKey] // seals; nil before the first and once closed
	known    *dataKeyCache           // open
	nextWrap atomic.Int64            // no successor is tried before

	ctx         context.Context // ends with Close
	cancel      context.CancelFunc
	background  sync.WaitGroup
	unsubscribe func()

	// The calls to the KEK: none waits behind one of another kind.
	wrapSlots   chan struct{} // to make and prove data keys
	reviewSlots chan struct{} // to confirm known data keys
	gate        *gate         // to unwrap unknown data keys

	mu        sync.Mutex
	closed    bool
	epoch     uint64 // counts reloads of the KEK; what was begun before one must not be kept after it
	wrapping  *flight
	wrapFails int
	wrapErr   error // of the last attempt, given out until nextWrap
	unwraps   map[string]*flight

	refused refusals
}

// reloading is a KEK that says when its keys have changed: a *Keyring, and what embeds one.
type reloading interface {
	onReload(f func()) (cancel func())
}

// flight is one call to the KEK that any number of callers wait for.
type flight struct {
	done  chan struct{}
	epoch uint64
	key   *dataKey // set before done is closed, like err
	err   error

	// Of a call to unwrap.
	turn    *turn
	doubted *dataKey // the answer is compared with it; may be nil
	waiting int      // callers; guarded by Envelope.mu
	cancel  context.CancelFunc
}

const (
	// wrapParallel is one call at a time, and those that were abandoned.
	wrapParallel   = 8
	reviewParallel = 8
)

var (
	_ tink.AEADWithContext = (*Envelope)(nil)
	_ AppendAEAD           = (*Envelope)(nil)
)

// NewEnvelope makes the first data key, and proves that what is sealed can be opened again through kek. Both call kek
// once, within ctx, so that a key service that is down, or a missing permission, shows at start. ctx is not kept.
//
// The Envelope runs one goroutine; Close ends it. It does not close kek.
func NewEnvelope(ctx context.Context, kek tink.AEADWithContext, opts ...EnvelopeOption) (*Envelope, error) {
	c, err := envelopeConfigOf(opts)
	if err != nil {
		return nil, err
	}
	if isNilKEK(kek) {
		return nil, errors.New("aead: an Envelope needs a key-encryption key")
	}
	hard := limits{messages: c.maxMessages, bytes: c.maxBytes, age: int64(c.maxAge)}
	e := &Envelope{
		kek:         kek,
		template:    c.template,
		hard:        hard,
		soft:        hard.soft(),
		ttl:         min(int64(c.ttl), 1<<61),
		log:         c.log,
		clock:       newClock(),
		known:       newDataKeyCache(c.cache),
		unsubscribe: func() {},
		wrapSlots:   make(chan struct{}, wrapParallel),
		reviewSlots: make(chan struct{}, reviewParallel),
		unwraps:     make(map[string]*flight),
	}
	e.gate = newGate(e.clock, !answersItself(kek))
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if k, ok := kek.(reloading); ok {
		e.unsubscribe = k.onReload(e.kekChanged)
	}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	e.background.Go(e.maintain)
	return e, nil
}

// start proves the type of data key and the KEK, and makes the first data key.
func (e *Envelope) start(ctx context.Context) error {
	if err := e.prove(); err != nil {
		return err
	}
	for {
		e.mu.Lock()
		epoch := e.epoch
		e.mu.Unlock()
		key, err := e.newDataKey(ctx)
		if err != nil {
			return err
		}
		e.mu.Lock()
		installed := e.epoch == epoch
		if installed {
			e.install(key)
		}
		e.mu.Unlock()
		if installed {
			return nil
		}
	}
}

// prove seals a probe under a data key of the given type that is used for nothing else, and opens it again, as it does
// with the data keys that it uses. It finds out how many bytes sealing adds.
func (e *Envelope) prove() error {
	data, err := registry.NewKeyData(e.template)
	if err != nil {
		return fmt.Errorf("aead: WithDataKeyTemplate: %w", err)
	}
	defer clear(data.Value)
	sealing, err := dataKeyPrimitive(e.template.GetTypeUrl(), data.GetValue(), true)
	if err != nil {
		return fmt.Errorf("aead: WithDataKeyTemplate: %w", err)
	}
	opening, err := dataKeyPrimitive(e.template.GetTypeUrl(), data.GetValue(), false)
	if err != nil {
		return fmt.Errorf("aead: WithDataKeyTemplate: %w", err)
	}
	probe := []byte("sealcache self test: this text must not be found in what is sealed")
	ad := []byte("sealcache self test")
	sealed, err := sealing.sealTo(nil, probe, ad)
	if err != nil {
		return fmt.Errorf("aead: self test: %w", err)
	}
	if bytes.Contains(sealed, probe) {
		return errors.New("aead: self test: the data key leaves its plaintext readable")
	}
	e.overhead = len(sealed) - len(probe)
	if e.template.GetTypeUrl() == aesGCMTypeURL {
		e.minPayload = gcmOverhead
	}
	opened, err := opening.openTo(nil, sealed, ad, false)
	if err != nil || !bytes.Equal(opened, probe) {
		return errors.New("aead: self test: the data key does not open what it sealed")
	}
	return nil
}

// SealTo implements AppendAEAD.
func (e *Envelope) SealTo(ctx context.Context, dst, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: seal: %w", ended(ctx))
	}
	n := uint64(len(plaintext))
	if n > e.hard.bytes {
		return nil, fmt.Errorf("aead: seal: message of %d bytes is longer than one data key may seal (WithMaxBytes %d)", n, e.hard.bytes)
	}
	for {
		key := e.current.Load()
		if key == nil {
			return nil, ErrClosed
		}
		now := e.clock.now()
		ok, due := key.reserve(now, n, &e.hard, &e.soft)
		if due && ok && now >= e.nextWrap.Load() {
			e.startSuccessor(ctx, key)
		}
		if ok {
			dst = grow(dst, len(key.header)+key.prim.overhead+len(plaintext))
			dst = append(dst, key.header...)
			return key.prim.sealTo(dst, plaintext, associatedData)
		}
		if err := e.awaitSuccessor(ctx, key); err != nil {
			return nil, err
		}
	}
}

// OpenTo implements AppendAEAD.
func (e *Envelope) OpenTo(ctx context.Context, dst, ciphertext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open: %w", ended(ctx))
	}
	key := e.current.Load()
	if key == nil {
		return nil, ErrClosed
	}
	header, payload, ok := splitEnvelope(ciphertext)
	if !ok || len(payload) < e.minPayload {
		return nil, ErrUnauthentic
	}
	if !key.is(header) {
		key = e.known.lookup(header)
	}
	now := e.clock.now()
	if key != nil && key.fresh(now, e.ttl) {
		e.stats.hits.inc()
		if now-key.confirmed.Load() >= e.ttl-e.ttl/4 && now >= key.nextConfirm.Load() {
			e.startReview(ctx, key)
		}
	} else {
		var err error
		if key, err = e.awaitDataKey(ctx, header, payload, nil); err != nil {
			return nil, err
		}
	}
	if !key.proved.Load() {
		opened, err := e.openUnproved(ctx, key, payload, associatedData)
		if err != nil {
			return nil, err
		}
		if inPlace(dst, ciphertext) {
			dst = payload[:0]
		}
		return append(dst, opened...), nil
	}
	if !inPlace(dst, ciphertext) {
		return key.prim.openTo(dst, payload, associatedData, false)
	}
	return key.prim.openTo(nil, payload, associatedData, true)
}

// EncryptWithContext implements tink.AEADWithContext.
func (e *Envelope) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return e.SealTo(ctx, nil, plaintext, associatedData)
}

// DecryptWithContext implements tink.AEADWithContext.
func (e *Envelope) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return present(e.OpenTo(ctx, nil, ciphertext, associatedData))
}

// Overhead returns how many bytes sealing currently adds: 99 with AES-GCM data keys under a Keyring of AES-GCM keys.
// A new data key may be wrapped in a byte more or less if the key service names its versions in what it returns.
func (e *Envelope) Overhead() int {
	key := e.current.Load()
	if key == nil {
		return 0
	}
	return len(key.header) + key.prim.overhead
}

// Close ends all background work, cancels calls to the KEK and waits for them, unless they ignore that they are
// cancelled, and lets go of the data keys. Later calls fail with ErrClosed. Closing twice does nothing.
func (e *Envelope) Close() error {
	e.mu.Lock()
	e.closed = true
	e.current.Store(nil)
	e.refused.forget()
	e.mu.Unlock()
	e.unsubscribe()
	e.cancel()
	e.gate.close()
	e.background.Wait()
	e.known.clear()
	return nil
}

// maintain lets go of data keys whose time is over, even if nobody asks for them.
func (e *Envelope) maintain() {
	every := max(min(time.Duration(e.ttl/4), time.Minute), 100*time.Millisecond)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-ticker.C:
			if e.clock.catchUp() {
				e.renewDataKey()
			}
			now := e.clock.now()
			e.known.removeIf(func(k *dataKey) bool { return !k.fresh(now, e.ttl) })
		}
	}
}

// renewDataKey has the next message make a new data key, because the machine was suspended. It may have been cloned: each
// clone would seal under the same data key, and count only its own messages.
func (e *Envelope) renewDataKey() {
	if key := e.current.Load(); key != nil {
		key.renew.Store(true)
		e.log.Info("sealcache: the clock jumped ahead, as after a suspension; the data key is replaced")
	}
}

// String says nothing of keys.
func (e *Envelope) String() string {
	if e.current.Load() == nil {
		return "aead.Envelope(closed)"
	}
	return "aead.Envelope(" + shortType(e.template.GetTypeUrl()) + ")"
}

// GoString is String.
func (e *Envelope) GoString() string { return e.String() }

// LogValue is String.
func (e *Envelope) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Format is String, whatever the verb.
func (e *Envelope) Format(s fmt.State, _ rune) { writeString(s, e) }
