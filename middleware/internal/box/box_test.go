package box_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// service is an AEAD that is not of package aead, as an adapter for a key service is.
type service struct {
	tink.AEAD
	err error // of every call
}

func (s *service) EncryptWithContext(_ context.Context, p, ad []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.Encrypt(p, ad)
}

func (s *service) DecryptWithContext(_ context.Context, c, ad []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.Decrypt(c, ad)
}

func newBox(t *testing.T, a tink.AEADWithContext, ns string) *box.Box {
	t.Helper()
	b, err := box.New(a, wire.CacheValue, ns)
	require.NoError(t, err)
	return b
}

func local(t *testing.T) tink.AEAD {
	t.Helper()
	a, err := tinkaead.New(sealtest.Handle(t))
	require.NoError(t, err)
	return a
}

type httpError struct{ error }

func (httpError) HTTPStatusCode() int { return 503 }

// Only a marked error is a refusal.
func TestRefusedOrNotAsked(t *testing.T) {
	t.Parallel()
	disconnected := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	known := func(s keyset.KeyStatus) error { return &aead.KeyError{KeyID: 1, Status: s} }
	for name, c := range map[string]struct {
		err                           error
		refused, final, asked, unmark bool
		both                          bool // the refusal shows, but does not count
	}{
		"unauthentic":          {err: aead.ErrUnauthentic, refused: true, final: true, asked: true},
		"with http error":      {err: fmt.Errorf("%w: %w", aead.ErrUnauthentic, httpError{io.EOF}), refused: true, final: true, asked: true},
		"unknown key":          {err: known(keyset.Unknown), refused: true, asked: true},
		"disabled key":         {err: known(keyset.Disabled), refused: true, final: true, asked: true},
		"destroyed key":        {err: known(keyset.Destroyed), refused: true, final: true, asked: true},
		"closed":               {err: aead.ErrClosed, asked: true},
		"exhausted":            {err: aead.ErrKeyExhausted, asked: true},
		"outage":               {err: aead.ErrKeyServiceUnavailable},
		"network":              {err: disconnected},
		"wrapped network":      {err: fmt.Errorf("decrypt: %w", disconnected)},
		"refusal over network": {err: fmt.Errorf("%w: %w", aead.ErrUnauthentic, disconnected)},
		"refusal over outage":  {err: fmt.Errorf("%w: %w", aead.ErrUnauthentic, aead.ErrKeyServiceUnavailable), both: true},
		"refusal over ctx":     {err: fmt.Errorf("%w: %w", aead.ErrUnknownKey, context.DeadlineExceeded)},
		"refusal over closed":  {err: fmt.Errorf("%w: %w", aead.ErrUnauthentic, aead.ErrClosed), asked: true, both: true},
		"refusal, turned away": {err: fmt.Errorf("%w: %w", aead.ErrUnauthentic, aead.ErrTooManyDataKeys), asked: true, both: true},
		"canceled":             {err: context.Canceled},
		"http":                 {err: httpError{errors.New("503")}},
		"cut off":              {err: io.ErrUnexpectedEOF},
		"no mark":              {err: errors.New("rpc error: code = Unavailable"), unmark: true},
		"no mark by Tink":      {err: errors.New("aead_factory: decryption failed"), unmark: true},
	} {
		s := &service{AEAD: local(t)}
		b := newBox(t, s, "")
		sealed, err := b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte("v"), "k")
		require.NoError(t, err)
		s.err = c.err
		_, err = b.Open(t.Context(), sealed, wire.HeaderSize, false, "k")
		require.Error(t, err, name)
		require.Equal(t, c.refused, box.Refused(err), name)
		require.Equal(t, c.final, box.Final(err), name)
		require.Equal(t, !c.asked, errors.Is(err, aead.ErrKeyServiceUnavailable), name)
		require.Equal(t, c.unmark, strings.Contains(err.Error(), "unknown kind"), name)
		if !c.refused && !c.both {
			require.NotErrorIs(t, err, aead.ErrUnauthentic, name)
			require.NotErrorIs(t, err, aead.ErrUnknownKey, name)
		}
		if !errors.Is(c.err, aead.ErrUnauthentic) && !errors.Is(c.err, aead.ErrUnknownKey) {
			require.ErrorIs(t, err, c.err, name)
		}
		_, err = b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte("v"), "k")
		require.Error(t, err, name)
		require.False(t, !c.asked && !errors.Is(err, aead.ErrKeyServiceUnavailable), name)
	}
	require.False(t, box.Refused(nil))
	require.False(t, box.Final(nil))
	for _, outage := range []error{context.Canceled, errors.New("broken")} {
		b := newBox(t, &service{AEAD: local(t), err: fmt.Errorf("aead: open: %w", outage)}, "")
		_, err := b.Open(t.Context(), []byte("0123456789"), wire.HeaderSize, false)
		require.Equal(t, 1, strings.Count(err.Error(), "aead: "), err)
	}
	for _, cause := range []error{aead.ErrUnknownKey, aead.ErrTooManyDataKeys, context.Canceled, errors.New("no mark")} {
		b := newBox(t, &service{AEAD: local(t), err: sealtest.PanickingError{Cause: cause}}, "")
		_, err := b.Open(t.Context(), []byte("0123456789"), wire.HeaderSize, false)
		require.ErrorIs(t, err, cause)
		require.NotContains(t, fmt.Sprint(err), sealtest.PanicSecret)
		require.NotPanics(t, func() { _ = err.Error() })
		_, err = b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte("v"), "k")
		require.ErrorIs(t, err, cause)
		require.NotContains(t, fmt.Sprint(err), sealtest.PanicSecret)
	}
	var network net.Error
	b := newBox(t, &service{AEAD: local(t), err: disconnected}, "")
	_, err := b.Open(t.Context(), []byte("0123456789"), wire.HeaderSize, false)
	require.ErrorAs(t, err, &network)
}

// A value opens only under its kind, namespace, names and header.
func TestBinding(t *testing.T) {
	t.Parallel()
	for form, a := range map[string]tink.AEADWithContext{"append": sealtest.Envelope(t), "two calls": aead.WithContext(local(t))} {
		b := newBox(t, a, "shop")
		dst := []byte("before")
		sealed, err := b.Seal(t.Context(), dst, wire.Header{Type: wire.String}, []byte("value"), "k")
		require.NoError(t, err, form)
		require.Equal(t, "before", string(sealed[:6]))
		sealed = sealed[6:]
		require.LessOrEqual(t, len(sealed), b.Size(5), form)
		h, n, err := b.Parse(sealed)
		require.NoError(t, err, form)
		require.Equal(t, wire.Header{Kind: wire.CacheValue, Type: wire.String}, h)
		open := func(b *box.Box, names ...string) error {
			_, err := b.Open(t.Context(), sealed, n, false, names...)
			return err
		}
		require.NoError(t, open(b, "k"), form)
		require.True(t, box.Final(open(b, "l")), form)
		require.True(t, box.Final(open(b)), form)
		require.True(t, box.Final(open(b, "k", "")), form)
		require.True(t, box.Final(open(newBox(t, a, "sho"), "k")), form)
		other, err := box.New(a, wire.JobPayload, "shop")
		require.NoError(t, err)
		require.True(t, box.Final(open(other, "k")), form)
		_, _, err = other.Parse(sealed)
		require.True(t, box.Final(err), form)
		sealed[4] = byte(wire.Bytes)
		require.True(t, box.Final(open(b, "k")), form)
		sealed[4] = byte(wire.String)

		before := bytes.Clone(sealed)
		got, err := b.Open(t.Context(), sealed, n, true, "k")
		require.NoError(t, err, form)
		require.Equal(t, "value", string(got), form)
		require.Equal(t, form == "append", !bytes.Equal(before, sealed), "opened in place")
		ct, err := b.Probe(t.Context())
		require.NoError(t, err, form)
		require.Equal(t, form == "append", wire.KeyOf(ct).Envelope())
	}
	_, err := box.New((*aead.Keyring)(nil), wire.CacheValue, "")
	require.ErrorContains(t, err, "the AEAD is nil")
}

// trusting is an AEAD that relies on the bytes that it wrote itself.
type trusting struct{ service }

func (s *trusting) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	if len(c) < 28 {
		panic(errors.New("secret"))
	}
	return s.service.DecryptWithContext(ctx, c, ad)
}

func (s *trusting) EncryptWithContext(_ context.Context, p, _ []byte) ([]byte, error) {
	return p[:1], nil
}

// nilError is an error whose method panics.
type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

// If the AEAD panics, the caller gets an error that says nothing about the value and does not show the panic.
func TestPanicOfTheAEAD(t *testing.T) {
	t.Parallel()
	check := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, aead.ErrKeyServiceUnavailable)
		require.False(t, box.Refused(err))
		require.NotContains(t, err.Error(), "secret")
	}
	b := newBox(t, &trusting{service{AEAD: local(t)}}, "")
	_, err := b.Open(t.Context(), append(wire.Header{Kind: wire.CacheValue, Type: wire.Bytes}.Append(nil), 7), wire.HeaderSize, false, "k")
	check(err)
	require.ErrorContains(t, err, "the code of the AEAD panicked")
	_, err = b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, nil, "k")
	check(err)
	s := &service{AEAD: local(t), err: (*nilError)(nil)}
	b = newBox(t, s, "")
	_, err = b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte("v"), "k")
	check(err)
	_, err = b.Open(t.Context(), append(wire.Header{Kind: wire.CacheValue, Type: wire.Bytes}.Append(nil), 7), wire.HeaderSize, false, "k")
	check(err)
}
