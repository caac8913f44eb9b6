//go:build unix

package vaulttest_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores"
)

// contexts is a Redis with values whose data keys Vault wraps.
type contexts struct {
	rotation
	kek aead.KEK
}

// with returns the store of an application with these options.
func (c *contexts) with(t *testing.T, opts ...aead.EnvelopeOption) *middleware.Store {
	t.Helper()
	backing, err := stores.Open(t.Context(), c.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	if closer, ok := backing.(io.Closer); ok {
		t.Cleanup(func() { _ = closer.Close() })
	}
	e, err := aead.NewEnvelope(t.Context(), c.kek, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s, err := middleware.New(backing, e, middleware.WithNamespace("shop"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Check(t.Context()), s.KeysDiffer()); err != nil { // as at the start of an application
		t.Errorf("start: %v", err)
	}
	return s
}

// holds checks that an application with these options reads every value.
func (c *contexts) holds(t *testing.T, what string, values int, opts ...aead.EnvelopeOption) {
	t.Helper()
	s := c.with(t, opts...)
	for i := range values {
		if got, err := s.Get(t.Context(), fmt.Sprint("value:", i)); err != nil || got != fmt.Sprint("v", i) {
			t.Fatalf("%s: value %d: %v, %v", what, i, got, err)
		}
	}
}

// Values are sealed again with a wrap context, with another one, and without one, by the command over the transit engine. After
// each run an application in the state "require" starts and reads every value.
func TestResealWrapContexts(t *testing.T) {
	t.Parallel()
	const values = 20
	e := newEngine(t)
	e.create("cache")
	s := servertest.New(t, e.handle, false, token)
	c := &contexts{rotation: rotation{engine: e, server: s, redis: redistest.Start(t)}, kek: open(t, s)}
	c.env = append(environ(), "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token, "SEALCACHE_KEK="+keyURI,
		"SEALCACHE_STORE="+c.redis.URL(), "SEALCACHE_NAMESPACE=shop")
	shop, other := map[string]string{"namespace": "shop"}, map[string]string{"namespace": "shop", "app": "web"}
	first := c.with(t)
	for i := range values {
		if err := first.Set(t.Context(), fmt.Sprint("value:", i), fmt.Sprint("v", i)); err != nil {
			t.Fatal(err)
		}
	}
	reseal := func(args ...string) {
		t.Helper()
		c.sealcache(t, append([]string{"reseal", "--progress", "none"}, args...)...)
	}
	audit := func(args ...string) { // status 0: every value opens
		t.Helper()
		c.sealcache(t, append([]string{"audit", "--open", "--progress", "none"}, args...)...)
	}

	c.holds(t, "prepare", values, aead.WithOtherWrapContexts(shop))
	c.holds(t, "tolerate", values, aead.WithWrapContext(shop), aead.WithOtherWrapContexts(nil))
	reseal("--wrap-context", "namespace=shop", "--wrap-context-state", "tolerate")
	audit("--wrap-context", "namespace=shop")
	c.holds(t, "require", values, aead.WithWrapContext(shop))

	c.holds(t, "both contexts", values, aead.WithWrapContext(other), aead.WithOtherWrapContexts(shop))
	reseal("--wrap-context", "namespace=shop,app=web", "--old-kek", keyURI, "--old-wrap-context", "namespace=shop")
	audit("--wrap-context", "app=web,namespace=shop")
	c.holds(t, "the other context", values, aead.WithWrapContext(other))

	c.holds(t, "tolerate, on the way back", values, aead.WithWrapContext(other), aead.WithOtherWrapContexts(nil))
	reseal("--wrap-context", "namespace=shop,app=web", "--wrap-context-state", "prepare")
	audit()
	c.holds(t, "off", values)
}
