package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

func keyring(t testing.TB) *aead.Keyring { t.Helper(); return sealtest.Keyring(t) }

func envelope(t testing.TB, opts ...aead.EnvelopeOption) *aead.Envelope {
	t.Helper()
	return sealtest.Envelope(t, opts...)
}

// localAEAD returns a Tink AEAD that is not of package aead.
func localAEAD(t testing.TB) tink.AEAD {
	t.Helper()
	a, err := tinkaead.New(sealtest.Handle(t))
	require.NoError(t, err)
	return a
}

// foreign returns an AEAD without AppendAEAD, whose refusals are marked.
func foreign(t testing.TB) tink.AEADWithContext {
	t.Helper()
	return aead.WithContext(localAEAD(t))
}

// unmarked is an AEAD whose errors package aead has not marked.
type unmarked struct{ tink.AEAD }

func (u unmarked) EncryptWithContext(_ context.Context, p, ad []byte) ([]byte, error) {
	return u.Encrypt(p, ad)
}

func (u unmarked) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return u.Decrypt(c, ad)
}

// everyAEAD runs f with each kind of AEAD that a Store may be given.
func everyAEAD(t *testing.T, f func(t *testing.T, a tink.AEADWithContext)) {
	t.Helper()
	for name, a := range map[string]func(testing.TB) tink.AEADWithContext{
		"envelope": func(t testing.TB) tink.AEADWithContext { return envelope(t) },
		"keyring":  func(t testing.TB) tink.AEADWithContext { return keyring(t) },
		"foreign":  foreign,
		"unmarked": func(t testing.TB) tink.AEADWithContext { return unmarked{localAEAD(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, a(t))
		})
	}
}

func memory(t testing.TB) *memorystore.Store {
	t.Helper()
	m, err := memorystore.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func sealed(t testing.TB, backing store.StoreInterface, a tink.AEADWithContext, opts ...middleware.Option) *middleware.Store {
	t.Helper()
	s, err := middleware.New(backing, a, opts...)
	require.NoError(t, err)
	return s
}

// plain is a store with the methods of gocache's interface only. It keeps the Go value that it gets, and reports TTLs
// as told. It has the defects of real stores that the decorator repairs; stores/matrix tests the real ones.
type plain struct {
	mu      sync.Mutex
	kind    string
	values  map[string]any
	options map[string]*store.Options
	ttl     time.Duration
	missErr error
	err     error
}

func newPlain(kind string) *plain {
	return &plain{kind: kind, values: map[string]any{}, options: map[string]*store.Options{}}
}

func (p *plain) Get(_ context.Context, key any) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	v, ok := p.values[key.(string)]
	if !ok {
		if p.missErr != nil {
			return nil, p.missErr
		}
		return nil, store.NotFoundWithCause(nil)
	}
	return v, nil
}

func (p *plain) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	v, err := p.Get(ctx, key)
	return v, p.ttl, err
}

func (p *plain) Set(_ context.Context, key, value any, opts ...store.Option) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.values[key.(string)] = value
	p.options[key.(string)] = store.ApplyOptions(opts...)
	return nil
}

func (p *plain) Delete(_ context.Context, key any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.values[key.(string)]; !ok && p.missErr != nil {
		return p.missErr
	}
	delete(p.values, key.(string))
	return p.err
}

func (p *plain) Invalidate(context.Context, ...store.InvalidateOption) error { return p.err }
func (p *plain) Clear(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.values)
	return p.err
}
func (p *plain) GetType() string { return p.kind }

func (p *plain) raw(t testing.TB, key string) []byte {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch v := p.values[key].(type) {
	case []byte:
		return append([]byte(nil), v...)
	case string:
		return []byte(v)
	default:
		require.Failf(t, "not bytes", "%T", v)
		return nil
	}
}

// raw returns the bytes that a memorystore holds.
func raw(t testing.TB, m *memorystore.Store, key string) []byte {
	t.Helper()
	b, err := m.GetBytes(t.Context(), key)
	require.NoError(t, err)
	return b
}

// oneOf fails unless errors.Is reports true for one of the targets.
func oneOf(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if errors.Is(err, target) {
			return
		}
	}
	require.Failf(t, "an undocumented error", "%v (%T)", err, err)
}

func countLines(text string) int { return strings.Count(strings.TrimSpace(text), "\n") + 1 }
