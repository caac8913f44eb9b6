package aead

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

const (
	// maxTenants bounds the tenants of an Envelope, at about eight kilobytes each with a data key in use.
	maxTenants = 1 << 16
	// tenantCalls bounds the calls to the KEKs of all tenants that began less than tenantCallTime ago. A call that takes longer
	// does not count: a key service that hangs must not hold up the tenants of others.
	tenantCalls    = 64
	tenantCallTime = slowCall / 10
	// tenantParallel bounds the calls of each kind to the KEK of one tenant.
	tenantParallel = 4
	// tenantPlaceholder stands for the tenant in a URI template.
	tenantPlaceholder = "{tenant}"
)

// WithTenants gives the Envelope tenants: see Envelope.Tenant. open returns the key-encryption key of a tenant, or
// ErrUnknownTenant. It is called when a tenant first seals or opens, from any goroutine, and never twice at a time
// for one tenant. Its ctx ends after ten seconds at most. An unknown tenant is asked for again after 15 seconds; any
// other error counts as an outage, and attempts are at most five seconds apart. The Envelope keeps the key and does
// not close it. Several tenants may have the same key: each value is still bound to its tenant.
func WithTenants(open func(ctx context.Context, id string) (tink.AEADWithContext, error)) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if open == nil {
			return errors.New("aead: WithTenants: the function is nil")
		}
		return c.setTenants(open, false)
	})
}

// WithTenantKEKs is WithTenants with the key-encryption keys that a URI template names. Each "{tenant}" in it becomes the id. The
// schemes are those of OpenKEK. The Envelope closes the keys in Close, and they have its logger.
//
// A key that does not exist is an outage, because a key service may give the same answer for a missing permission. A file://
// key is read again each time that it wraps or unwraps a data key. So a file that was deleted, and a key that was destroyed in
// it, end the tenant's reads within WithDataKeyTTL. It also runs a goroutine and watches its file; with thousands of tenants, add
// "?reload=off" to the template.
func WithTenantKEKs(template string, openers ...KEKOpener) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if !strings.Contains(template, tenantPlaceholder) {
			return errors.New("aead: WithTenantKEKs: the URI must contain {tenant} in the place of the tenant's id")
		}
		if slices.ContainsFunc(openers, func(o KEKOpener) bool { return nilcheck.IsNil(o) }) {
			return errors.New("aead: WithTenantKEKs: an opener that the caller gave is nil")
		}
		return c.setTenants(func(ctx context.Context, id string) (tink.AEADWithContext, error) {
			return OpenKEKWithLogger(ctx, strings.ReplaceAll(template, tenantPlaceholder, id), c.log, openers...)
		}, true)
	})
}

func (c *envelopeConfig) setTenants(open func(context.Context, string) (tink.AEADWithContext, error), own bool) error {
	if c.tenants != nil {
		return errors.New("aead: WithTenants or WithTenantKEKs is given twice, or both are given (give only one of them)")
	}
	c.tenants, c.ownTenants = open, own
	return nil
}

// tenants holds the tenants of an Envelope. Each has a separate Envelope. The data-key cache and the counters are
// shared.
type tenants struct {
	open  func(ctx context.Context, id string) (tink.AEADWithContext, error)
	own   bool
	calls chan struct{}

	mu     sync.Mutex
	closed bool
	m      map[string]*tenant
	closes []io.Closer
}

func newTenants(c *envelopeConfig) *tenants {
	if c.tenants == nil {
		return nil
	}
	return &tenants{open: c.tenants, own: c.ownTenants, calls: make(chan struct{}, tenantCalls), m: make(map[string]*tenant)}
}

// Tenant returns the AEAD of a tenant: with its own key-encryption key and data keys. It implements AppendAEAD, and
// each call with this id returns the same AEAD. The Envelope needs WithTenants or WithTenantKEKs. id has 1 to 64
// letters, digits, '_', '.' or '-', and begins with a letter or digit. It appears in logs. An Envelope has at most
// 65536 tenants.
//
// Give each tenant a separate store:
//
//	tenant, err := envelope.Tenant("acme")
//	store, err := middleware.New(backing, tenant, middleware.WithNamespace("acme"))
//
// The AEAD decides the tenant. The tenant is never taken from a context.
//
// # Isolation
//
// A data key belongs to one tenant. Its wrapped form contains a commitment to the data key and the tenant (FORMAT.md), which is
// checked when the KEK unwraps the data key. A value that is moved to another tenant is ErrUnauthentic, even if both tenants have
// the same KEK. If you destroy the KEK of a tenant, its values become unreadable within WithDataKeyTTL. Other tenants are not
// affected.
//
// Each tenant has its own limits for unknown data keys, refusals and failures. The options of the Envelope apply to each tenant,
// but WithDataKeyCache bounds all of them together; one tenant holds an eighth of it at most. Of the calls under way to the
// KEKs of all tenants, at most 64 began within the last tenth of a second.
//
// # Format
//
// A tenant's values are 33 bytes longer than others. Tink's envelope does not open them.
//
// Tenant calls no key service. A tenant's first message opens its KEK and makes its first data key, so it waits for three calls,
// with WithWrapContext for four.
// The tenant is usable until the Envelope is closed.
func (e *Envelope) Tenant(id string) (tink.AEADWithContext, error) {
	if e.tenants == nil {
		return nil, errors.New("aead: Tenant: the Envelope has no tenants (set WithTenants or WithTenantKEKs)")
	}
	if err := names.CheckTenant(id); err != nil {
		return nil, fmt.Errorf("aead: Tenant: %w", err)
	}
	ts := e.tenants
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return nil, ErrClosed
	}
	if t, ok := ts.m[id]; ok {
		return t, nil
	}
	if len(ts.m) >= maxTenants {
		return nil, fmt.Errorf("aead: Tenant: the Envelope has %d tenants, the allowed maximum (make another Envelope)", maxTenants)
	}
	own := e.newTenant(id)
	t := &tenant{described("aead.Envelope tenant(" + shortType(e.template.GetTypeUrl()) + ")"), own, own}
	ts.m[id] = t
	return t, nil
}

// newTenant returns the Envelope of a tenant. It starts no goroutine.
func (e *Envelope) newTenant(id string) *Envelope {
	kek := &tenantKEK{id: id, tenants: e.tenants, typeURL: e.template.GetTypeUrl(), clock: e.clock}
	t := &Envelope{
		kek:      kek,
		template: e.template,
		hard:     e.hard, soft: e.soft, ttl: e.ttl,
		overhead: e.overhead, minPayload: e.minPayload,
		contexts:    newWrapContexts(e.contexts.config, id),
		log:         e.log.With("tenant", id),
		clock:       e.clock,
		stats:       e.stats,
		lazy:        true,
		doubts:      true,
		known:       dataKeyView{e.known.dataKeyCache, id},
		unsubscribe: kek.unsubscribe,
		wrapSlots:   make(chan struct{}, tenantParallel),
		reviewSlots: make(chan struct{}, tenantParallel),
		unwraps:     make(map[string]*flight),
	}
	t.gate = newGate(e.clock, true)
	t.gate.free = tenantParallel
	t.ctx, t.cancel = context.WithCancel(e.ctx)
	kek.changed = t.kekChanged
	return t
}

// stop stops the tenants, and returns the KEKs to close. The context of the Envelope has ended, so that their calls end together.
func (ts *tenants) stop() []io.Closer {
	if ts == nil {
		return nil
	}
	ts.mu.Lock()
	ts.closed = true
	m, closes := ts.m, ts.closes
	ts.m, ts.closes = nil, nil
	ts.mu.Unlock()
	for _, t := range m {
		t.envelope.stop()
	}
	return closes
}

// closeKEKs closes KEKs of tenants. ctx is that of the Envelope.
func closeKEKs(ctx context.Context, closes []io.Closer) error {
	var errs []error
	closed := make(chan error)
	for _, c := range closes { // at once: each may wait for a file that hangs
		go func() { closed <- closeKEK(ctx, c) }()
	}
	for range closes {
		errs = append(errs, <-closed)
	}
	return errors.Join(errs...)
}

// renewDataKeys is renewDataKey of each tenant.
func (ts *tenants) renewDataKeys() {
	if ts == nil {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.m {
		t.envelope.renewDataKey()
	}
}

// keep records a KEK for Close. If the Envelope is closed already, it closes the KEK at once.
func (ts *tenants) keep(ctx context.Context, kek tink.AEADWithContext) error {
	c, ok := kek.(io.Closer)
	if !ok || !ts.own {
		return nil
	}
	ts.mu.Lock()
	closed := ts.closed
	if !closed {
		ts.closes = append(ts.closes, c)
	}
	ts.mu.Unlock()
	if closed {
		return errors.Join(ErrClosed, closeKEK(ctx, c))
	}
	return nil
}

// begin waits until a call to the KEK of a tenant may begin. end is called when it has returned.
func (ts *tenants) begin(ctx context.Context) (end func(), err error) {
	if err := take(ctx, ts.calls); err != nil {
		return nil, err
	}
	return releaseSlow(releaser(ts.calls), tenantCallTime, func() bool { return true }), nil
}

// tenant is what Tenant returns. It has no Close: the Envelope closes all of them.
type tenant struct {
	described // the type of data key
	tenantAEAD
	envelope *Envelope // the same
}

// tenantAEAD has the methods of an Envelope that seal and open. Overhead is 0 before the first message.
type tenantAEAD interface {
	tink.AEADWithContext
	AppendAEAD
	Overhead() int
}
