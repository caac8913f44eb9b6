package keyservice_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
)

const secret = "hunter2"

// client is a service in memory. Each function, if set, replaces a call.
type client struct {
	sealer       tink.AEAD
	wrap, unwrap func(ctx context.Context, in, ad []byte) ([]byte, error)
	probe        error
	closed       int
}

func newClient(t *testing.T) *client {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		t.Fatal(err)
	}
	return &client{sealer: a}
}

func (c *client) Wrap(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if c.wrap != nil {
		return c.wrap(ctx, plaintext, ad)
	}
	return c.sealer.Encrypt(plaintext, ad)
}

func (c *client) Unwrap(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if c.unwrap != nil {
		return c.unwrap(ctx, ciphertext, ad)
	}
	out, err := c.sealer.Decrypt(ciphertext, ad)
	if err != nil {
		return nil, keyservice.Refuse(aead.ErrUnauthentic, "does not authenticate", err)
	}
	return out, nil
}

func (c *client) Probe(context.Context) error { return c.probe }

func (c *client) Close() error {
	c.closed++
	return nil
}

func key() keyservice.Key { return keyservice.Key{Module: "fake", Name: "key 1"} }

func TestConformance(t *testing.T) {
	t.Parallel()
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
		k, err := keyservice.Open(t.Context(), key(), newClient(t))
		if err != nil {
			t.Fatal(err)
		}
		return k
	})
}

func TestProof(t *testing.T) {
	t.Parallel()
	outage := &url.Error{Op: "Post", URL: "https://user:" + secret + "@host", Err: syscall.ECONNREFUSED}
	same := func(_ context.Context, in, _ []byte) ([]byte, error) { return in, nil }
	for want, broken := range map[string]func(*client){
		`"key 1": status 418`:                          func(c *client) { c.probe = &keyservice.Failure{Reason: "status 418"} },
		`key "key 1": denied (grant it)`:               func(c *client) { c.wrap = fails(&keyservice.Failure{Reason: "denied", Remedy: "grant it"}) },
		`"key 1": connection refused`:                  func(c *client) { c.unwrap = fails(outage) },
		"does not authenticate associated data":        func(c *client) { c.wrap, c.unwrap = same, same },
		"did not return the bytes that were encrypted": func(c *client) { c.unwrap = func(context.Context, []byte, []byte) ([]byte, error) { return nil, nil } },
		`"key 1": ` + context.Canceled.Error():         func(c *client) { c.wrap = fails(context.Canceled) },
		`"key 1": ` + "disabled":                       func(c *client) { c.wrap = fails(keyservice.Refuse(aead.ErrUnknownKey, "disabled", nil)) },
	} {
		c := newClient(t)
		broken(c)
		k, err := keyservice.Open(t.Context(), key(), c)
		if err == nil || k != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%v, want %q", err, want)
		}
		if c.closed != 1 {
			t.Errorf("%s: the client was closed %d times", want, c.closed)
		}
	}
}

func fails(err error) func(context.Context, []byte, []byte) ([]byte, error) {
	return func(context.Context, []byte, []byte) ([]byte, error) { return nil, err }
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	k, err := keyservice.Open(t.Context(), key(), c)
	if err != nil {
		t.Fatal(err)
	}
	refusal := keyservice.Refuse(aead.ErrUnknownKey, "disabled", syscall.ENOKEY)
	c.wrap, c.unwrap = fails(refusal), fails(refusal)
	if _, err = k.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("a failed wrap is an outage: %v", err)
	}
	if _, err = k.DecryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrUnknownKey) || errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, syscall.ENOKEY) {
		t.Errorf("a refusal: %v", err)
	}
	c.unwrap = fails(errors.New(secret))
	if _, err = k.DecryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || strings.Contains(err.Error(), secret) {
		t.Errorf("an error of unknown kind: %v", err)
	}
	c.wrap = func(context.Context, []byte, []byte) ([]byte, error) { return nil, nil }
	if _, err = k.EncryptWithContext(t.Context(), nil, nil); err == nil {
		t.Error("an empty answer is a wrapped key")
	}
	// A refusal that comes with the end of the context says nothing.
	ctx, cancel := context.WithCancel(t.Context())
	c.unwrap = func(context.Context, []byte, []byte) ([]byte, error) {
		cancel()
		return nil, refusal
	}
	if _, err = k.DecryptWithContext(ctx, nil, nil); !errors.Is(err, context.Canceled) || errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("a refusal after the context: %v", err)
	}
}

// A service says the same of altered bytes and of those that another kind of key wrapped. Only the former are definite.
func TestOtherForms(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.wrap = func(_ context.Context, in, ad []byte) ([]byte, error) {
		out, err := c.sealer.Encrypt(in, ad)
		return append([]byte("form"), out...), err
	}
	c.unwrap = func(_ context.Context, in, ad []byte) ([]byte, error) {
		out, err := c.sealer.Decrypt(bytes.TrimPrefix(in, []byte("form")), ad)
		if err != nil {
			return nil, keyservice.Refuse(aead.ErrUnauthentic, "does not authenticate", err)
		}
		return out, nil
	}
	k, err := keyservice.Open(t.Context(), key(), c)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := k.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := k.DecryptWithContext(t.Context(), wrapped, nil); err != nil || string(out) != "data key" {
		t.Errorf("%q, %v", out, err)
	}
	wrapped[len(wrapped)-1] ^= 1
	if _, err := k.DecryptWithContext(t.Context(), wrapped, nil); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("altered: %v", err)
	}
	for _, other := range []string{"\x01\x02\x03\x04\x05 a Tink keyset's", "\x02pass of a passphrase", "x"} {
		if _, err := k.DecryptWithContext(t.Context(), []byte(other), nil); !errors.Is(err, aead.ErrUnknownKey) || errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	k, err := keyservice.Open(t.Context(), key(), c)
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	c.unwrap = func(ctx context.Context, _, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	failed := make(chan error)
	go func() {
		_, err := k.DecryptWithContext(t.Context(), nil, nil)
		failed <- err
	}()
	<-started
	for range 2 {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-failed; !errors.Is(err, aead.ErrClosed) {
		t.Errorf("a call during Close: %v", err)
	}
	if _, err := k.DecryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
		t.Errorf("a call after Close: %v", err)
	}
	if c.closed != 1 {
		t.Errorf("closed %d times", c.closed)
	}
}
