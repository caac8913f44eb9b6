package aead

import (
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

	"github.com/sealcache/sealcache/internal/nilcheck"
)

// Envelope seals messages under data keys (DEKs) that a key-encryption key (KEK) wraps. It uses each data key for
// many messages and puts the wrapped data key in front of each. The bytes are those of Tink's KMS envelope. With the
// same KEK and type of data key, Tink opens the ciphertexts of an Envelope, and the other way round.
//
// # Sealing
//
// NewEnvelope makes the first data key. A data key is proved before it seals: the KEK unwraps it again, and the result must be
// the same. When it has reached three quarters of a limit (WithMaxMessages, WithMaxBytes, WithMaxAge), the next message starts
// the making of a successor in the background. The present data key seals until the successor is proved. So a request waits for
// the key service only after the Envelope was idle for longer than the maximum age.
//
// If the key service is down, or answers wrongly, sealing continues under the present data key up to its limits. Then it fails
// with ErrKeyServiceUnavailable until the service is back. Attempts are at most five seconds apart. Each Envelope makes its
// own data keys.
//
// # Opening
//
// Unwrapped data keys are held for a time (WithDataKeyCache, WithDataKeyTTL). An unknown data key is unwrapped once for all
// callers that wait for it. Each caller waits as long as its context allows. Messages under known data keys do not wait.
//
// A data key that is read counts as proved once a message has authenticated under it. If the first message does not, the KEK
// is asked once more, and after 15 seconds again. Data keys that are not proved are held apart and displace no others.
//
// An attacker who plants values cannot cause a storm of calls. At most 16 unwraps of unknown data keys run at a time,
// and at most 4096 data keys wait. Calls that prove no data key are limited to 100 per second, with a burst of 1024.
// While that limit is reached, data keys that several messages name come first, and others may be turned away with
// ErrTooManyDataKeys. A refusal is remembered for 15 seconds; an outage is not remembered. If the KEK is of this
// package and calls no service, only the number of concurrent unwraps is limited.
//
// # Errors
//
// ErrUnauthentic and ErrUnknownKey mean that the message or the KEK definitely refuses. A message that is not in the form of an
// Envelope is ErrUnknownKey, because another AEAD may have sealed it. ErrTooManyDataKeys means that the data
// key was turned away. ErrKeyServiceUnavailable means that the KEK failed in any other way, or answered with something that is
// not a data key. Context errors and the KEK's own error are found by errors.Is and errors.As.
//
// # Reload and shredding
//
// If the KEK is a *Keyring, or a struct that embeds one, its Reload drops the Envelope's data keys at once. The Envelope
// then makes a new one under the new primary key. With any other KEK, WithDataKeyTTL is the delay after which a destroyed
// KEK takes effect.
//
// # Calls to the KEK
//
// Each call has a deadline of ten seconds at most. A KEK that ignores its context is abandoned then: neither callers
// nor Close wait for it. The call counts as under way until it returns. At most 8 calls to make data keys, 16 to
// unwrap and 8 to confirm are under way. Under a KEKSet, a call to unwrap or confirm counts for a second at most, so
// that a member that hangs does not hold up the others. At most 64 calls to unwrap or confirm are under way at each member.
//
// The KEK must be safe for concurrent use. A call that one caller started serves all callers. It gets the values of
// that caller's context, and not its cancellation.
type Envelope struct {
	kek        tink.AEADWithContext
	template   *tinkpb.KeyTemplate
	hard, soft limits
	ttl        int64
	overhead   int // bytes that a data key adds to a message
	minPayload int // no message has fewer after its wrapped data key
	log        *slog.Logger
	clock      *clock
	stats      *envelopeCounters
	contexts   wrapContexts
	tenants    *tenants // nil without WithTenants
	doubts     bool     // the KEK may answer with a wrong data key
	lazy       bool     // the first data key is made by the first message, as a tenant's is

	current  atomic.Pointer[dataKey] // seals; nil before the first and once closed
	known    dataKeyView             // opens
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

	contextProved bool // the KEK heeds the wrap context; its reload resets this
	refused       refusals
}

// reloading is a KEK that reports when its keys have changed: a *Keyring, or a struct that embeds one.
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
	request *unwrapRequest
	doubted *dataKey // the answer is compared with it; may be nil
	waiting int      // callers; guarded by Envelope.mu
	cancel  context.CancelFunc
}

const (
	wrapParallel   = 8 // one call at a time, and those that were abandoned
	reviewParallel = 8
)

var (
	_ tink.AEADWithContext = (*Envelope)(nil)
	_ AppendAEAD           = (*Envelope)(nil)
)

// NewEnvelope returns an Envelope whose first data key is made and proved. It calls kek twice, within ctx, so that it
// fails at start if the key service is down or a permission is missing. ctx is not kept.
//
// The Envelope runs one goroutine, which Close ends. Close does not close kek.
func NewEnvelope(ctx context.Context, kek tink.AEADWithContext, opts ...EnvelopeOption) (*Envelope, error) {
	c, err := envelopeConfigOf(opts)
	if err != nil {
		return nil, err
	}
	if nilcheck.IsNil(kek) {
		return nil, errors.New("aead: NewEnvelope: the key-encryption key is nil")
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
		stats:       new(envelopeCounters),
		contexts:    newWrapContexts(c, ""),
		tenants:     newTenants(c),
		known:       dataKeyView{dataKeyCache: newDataKeyCache(c.cache)},
		unsubscribe: func() {},
		wrapSlots:   make(chan struct{}, wrapParallel),
		reviewSlots: make(chan struct{}, reviewParallel),
		unwraps:     make(map[string]*flight),
	}
	e.doubts = !computes(kek)
	e.gate = newGate(e.clock, !isLocal(kek))
	e.gate.free = unwrapsAtATime(kek)
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
		key, err := e.newDataKey(ctx, epoch)
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

var errDataKeyTemplate = errors.New("aead: WithDataKeyTemplate: the template makes no usable key (use Tink's AES256GCMKeyTemplate)")

// prove tests a data key that is used for nothing else. It measures how many bytes sealing adds.
func (e *Envelope) prove() error {
	data, err := registry.NewKeyData(e.template)
	if err != nil {
		return fmt.Errorf("aead: WithDataKeyTemplate: Tink refuses the template (use Tink's AES256GCMKeyTemplate): %w", err)
	}
	defer clear(data.Value)
	sealing, err := dataKeyPrimitive(e.template.GetTypeUrl(), data.GetValue(), true)
	if err != nil {
		return errDataKeyTemplate
	}
	opening, err := dataKeyPrimitive(e.template.GetTypeUrl(), data.GetValue(), false)
	if err != nil {
		return errDataKeyTemplate
	}
	if e.template.GetTypeUrl() == aesGCMTypeURL {
		e.minPayload = gcmOverhead
	}
	e.overhead, err = selfTest("the new data key",
		func(probe, ad []byte) ([]byte, error) { return sealing.sealTo(nil, probe, ad) },
		func(sealed, ad []byte) ([]byte, error) { return opening.openTo(nil, sealed, ad, false) })
	return err
}

// SealTo implements AppendAEAD.
func (e *Envelope) SealTo(ctx context.Context, dst, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: seal: %w", ended(ctx))
	}
	n := uint64(len(plaintext))
	if n > e.hard.bytes {
		return nil, fmt.Errorf("aead: seal: the message has %d bytes, but WithMaxBytes allows %d (raise WithMaxBytes)", n, e.hard.bytes)
	}
	for {
		key := e.current.Load()
		if key == nil { // closed, or the first data key of a tenant
			if err := e.awaitSuccessor(ctx, nil); err != nil {
				return nil, err
			}
			continue
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
	if key == nil && !e.lazy {
		return nil, ErrClosed
	}
	header, payload, ok := splitEnvelope(ciphertext)
	if !ok || len(payload) < e.minPayload {
		return nil, e.formError(key, header, len(ciphertext))
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

// formError returns the error for n bytes that do not have the format of this Envelope. If they begin with a known data key,
// they were cut off. Otherwise another AEAD, or an Envelope with another type of data key, may have written them.
func (e *Envelope) formError(current *dataKey, header []byte, n int) error {
	if n < leastCiphertext || header != nil && (current.is(header) || e.known.lookup(header) != nil) {
		return errNotOpened
	}
	return errOtherForm
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
// It may change by some bytes with a new data key if the key service puts its version into wrapped keys.
func (e *Envelope) Overhead() int {
	key := e.current.Load()
	if key == nil {
		return 0
	}
	return len(key.header) + key.prim.overhead
}

// Close ends all background work, cancels calls to the KEK, and drops the data keys. It waits for the calls, unless they ignore
// their context. Later calls fail with ErrClosed. Closing twice does nothing.
func (e *Envelope) Close() error {
	e.stop()
	kekCloses := e.tenants.stop()
	e.known.removeIf(func(*dataKey) bool { return true }) // once: those of all tenants, too
	return closeKEKs(e.ctx, kekCloses)
}

// stop ends the background work of an Envelope or of a tenant. It leaves the data keys in the cache.
func (e *Envelope) stop() {
	e.mu.Lock()
	e.closed = true
	e.current.Store(nil)
	e.refused.forget()
	e.mu.Unlock()
	e.unsubscribe()
	e.cancel()
	e.gate.close()
	e.background.Wait()
}

// maintain drops data keys that are past their TTL, and notices a suspension of the machine.
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
				e.tenants.renewDataKeys()
			}
			now := e.clock.now()
			e.known.removeIf(func(k *dataKey) bool { return !k.fresh(now, e.ttl) })
		}
	}
}

// renewDataKey makes the next message start a new data key, because the machine was suspended. It may have been cloned:
// each clone would seal under the same data key, and count only its own messages.
func (e *Envelope) renewDataKey() {
	if key := e.current.Load(); key != nil {
		key.renew.Store(true)
		e.log.Info("sealcache: the clock jumped ahead, so the Envelope replaces its data key")
	}
}

// String shows the type of data key, and no key.
func (e *Envelope) String() string {
	if e.current.Load() == nil {
		return "aead.Envelope(closed)"
	}
	return "aead.Envelope(" + shortType(e.template.GetTypeUrl()) + ")"
}

// GoString returns String.
func (e *Envelope) GoString() string { return e.String() }

// LogValue returns String.
func (e *Envelope) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Format writes String for every verb.
func (e *Envelope) Format(s fmt.State, _ rune) { writeString(s, e) }
