package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

var meta = jobs.Meta{Type: "mail:send", Queue: "default", ID: "42"}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*jobs.Encryptor{
		"plain":      newEncryptor(t),
		"namespace":  newEncryptor(t, jobs.WithNamespace("billing")),
		"compressed": newEncryptor(t, jobs.WithCompression(0)),
	} {
		for _, n := range []int{0, 1, 15, 16, 17, 300, 1 << 16} {
			for kind := jobs.Payload; kind <= jobs.Schedule; kind++ {
				payload := bytes.Repeat([]byte{'x'}, n)
				before := bytes.Clone(payload)
				m := meta
				m.Kind = kind
				sealed, err := e.Seal(t.Context(), m, payload)
				require.NoError(t, err, name)
				require.Equal(t, before, payload, "payload must not be changed")
				require.True(t, jobs.IsSealed(sealed))
				beforeSealed := bytes.Clone(sealed)
				opened, err := e.Open(t.Context(), m, sealed)
				require.NoError(t, err, "%s, %d bytes", name, n)
				require.Equal(t, len(payload), len(opened))
				require.True(t, bytes.Equal(payload, opened))
				require.Equal(t, beforeSealed, sealed, "sealed bytes must not be changed")
				clear(opened)
				again, err := e.Open(t.Context(), m, sealed)
				require.NoError(t, err)
				require.True(t, bytes.Equal(payload, again), "what was returned belongs to the caller")
			}
		}
	}
}

// SealTo appends, in place if there is room, and leaves the bytes before.
func TestSealTo(t *testing.T) {
	t.Parallel()
	k := sealtest.Keyring(t)
	for _, a := range []tink.AEADWithContext{k, struct{ tink.AEADWithContext }{k}} {
		e, err := jobs.NewEncryptor(a)
		require.NoError(t, err)
		for _, room := range []int{0, 4, 1000} {
			dst := append(make([]byte, 0, 6+room), "before"...)
			got, err := e.SealTo(t.Context(), dst, meta, []byte("payload"))
			require.NoError(t, err)
			require.Equal(t, "before", string(got[:6]))
			require.Equal(t, room == 1000, &dst[0] == &got[0])
			opened, err := e.Open(t.Context(), meta, got[6:])
			require.NoError(t, err)
			require.Equal(t, "payload", string(opened))
		}
	}
}

func TestSealedTwiceIsNeverTheSame(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t)
	one, err := e.Seal(t.Context(), meta, []byte("same"))
	require.NoError(t, err)
	two, err := e.Seal(t.Context(), meta, []byte("same"))
	require.NoError(t, err)
	require.NotEqual(t, one, two)
}

// The associated data is that of FORMAT.md: a bare AEAD opens what the Encryptor sealed.
func TestAssociatedDataFollowsFORMAT(t *testing.T) {
	t.Parallel()
	k := sealtest.Keyring(t)
	e, err := jobs.NewEncryptor(k, jobs.WithNamespace("ns"))
	require.NoError(t, err)
	sealed, err := e.Seal(t.Context(), jobs.Meta{Type: "t", ID: "id", Kind: jobs.Result}, []byte("result"))
	require.NoError(t, err)
	require.Equal(t, "c15c0103010805", fmt.Sprintf("%x", sealed[:7]))
	ad := "sealcache.v1\x03\x00\x00\x00\x02ns\x00\x00\x00\x01t\x00\x00\x00\x00\x00\x00\x00\x02id" + string(sealed[:7])
	opened, err := k.Decrypt(sealed[7:], []byte(ad))
	require.NoError(t, err)
	require.Equal(t, "result", string(opened))
}

func TestMovedValuesAreRefused(t *testing.T) {
	t.Parallel()
	k := sealtest.Keyring(t)
	e, err := jobs.NewEncryptor(k, jobs.WithNamespace("ns"))
	require.NoError(t, err)
	sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
	require.NoError(t, err)
	for name, m := range map[string]jobs.Meta{
		"other type":           {Type: "mail:send2", Queue: "default", ID: "42"},
		"other queue":          {Type: "mail:send", Queue: "low", ID: "42"},
		"other id":             {Type: "mail:send", Queue: "default", ID: "43"},
		"other kind":           {Type: "mail:send", Queue: "default", ID: "42", Kind: jobs.Result},
		"names shifted":        {Type: "mail:senddefault", Queue: "42"},
		"names cut elsewhere":  {Type: "mail:sen", Queue: "ddefault", ID: "42"},
		"names swapped":        {Type: "default", Queue: "mail:send", ID: "42"},
		"type not known here":  {Queue: "default", ID: "42"},
		"queue not known here": {Type: "mail:send", ID: "42"},
		"id not known here":    {Type: "mail:send", Queue: "default"},
		"nothing known":        {},
	} {
		_, err := e.Open(t.Context(), m, sealed)
		require.ErrorIs(t, err, jobs.ErrUnauthentic, name)
		require.True(t, jobs.Permanent(err), name)
	}
	for _, opts := range [][]jobs.Option{nil, {jobs.WithNamespace("n")}, {jobs.WithNamespace("ns2")}} {
		other, err := jobs.NewEncryptor(k, opts...)
		require.NoError(t, err)
		_, err = other.Open(t.Context(), meta, sealed)
		require.ErrorIs(t, err, jobs.ErrUnauthentic)
	}
}

// A value that was sealed without an id must not open at a place with an id, unless an option allows it.
func TestLessBindingIsADowngrade(t *testing.T) {
	t.Parallel()
	k := sealtest.Keyring(t)
	e, err := jobs.NewEncryptor(k)
	require.NoError(t, err)
	tolerant, err := jobs.NewEncryptor(k, jobs.WithOptionalBinding(jobs.BindID|jobs.BindQueue))
	require.NoError(t, err)
	for _, m := range []jobs.Meta{{Type: "mail:send", Queue: "default"}, {Type: "mail:send"}, {}} {
		sealed, err := e.Seal(t.Context(), m, []byte("payload"))
		require.NoError(t, err)
		opened, err := e.Open(t.Context(), m, sealed) // for every job with these names
		require.NoError(t, err)
		require.Equal(t, "payload", string(opened))
		m.Kind = jobs.Result
		_, err = e.Open(t.Context(), m, sealed)
		require.ErrorIs(t, err, jobs.ErrUnauthentic)
		_, err = e.Open(t.Context(), meta, sealed)
		require.ErrorIs(t, err, jobs.ErrUnauthentic)
		opened, err = tolerant.Open(t.Context(), meta, sealed)
		if m.Type == "" {
			require.ErrorIs(t, err, jobs.ErrUnauthentic, "the type is not optional")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "payload", string(opened))
		_, err = tolerant.Open(t.Context(), jobs.Meta{Type: "other", Queue: "default", ID: "42"}, sealed)
		require.ErrorIs(t, err, jobs.ErrUnauthentic, "what is bound still counts")
	}
}

// No byte of a sealed value can be changed, cut or added, its header included.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, jobs.WithCompression(0))
	for _, payload := range [][]byte{[]byte("short"), bytes.Repeat([]byte("long enough to be compressed "), 10)} {
		sealed, err := e.Seal(t.Context(), meta, payload)
		require.NoError(t, err)
		refuse := func(b []byte, what string) {
			t.Helper()
			_, err := e.Open(t.Context(), meta, b)
			require.Error(t, err, what)
			require.True(t, errors.Is(err, jobs.ErrUnauthentic) || errors.Is(err, jobs.ErrUnsupportedFormat) ||
				errors.Is(err, jobs.ErrNotSealed) || errors.Is(err, jobs.ErrUnknownKey), "%s: %v", what, err)
		}
		for i := range sealed {
			for _, x := range []byte{0x01, 0x80, 0xff} {
				b := bytes.Clone(sealed)
				b[i] ^= x
				refuse(b, fmt.Sprintf("byte %d", i))
			}
			refuse(sealed[:i], fmt.Sprintf("cut to %d", i))
		}
		refuse(append(bytes.Clone(sealed), 0), "a byte more")
	}
}

func TestPlaintextIsNotSealed(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t)
	for _, plaintext := range []string{"", "1", "{}", `{"user":1}`, "\x0a\x03abc", "\x93\x01"} {
		_, err := e.Open(t.Context(), meta, []byte(plaintext))
		require.ErrorIs(t, err, jobs.ErrNotSealed)
		require.True(t, jobs.Permanent(err))
		require.False(t, jobs.IsSealed([]byte(plaintext)))
	}
}

// A cache value under the same key and names is not a payload.
func TestCacheValueIsNotAPayload(t *testing.T) {
	t.Parallel()
	k := sealtest.Keyring(t)
	e, err := jobs.NewEncryptor(k)
	require.NoError(t, err)
	h := wire.Header{Kind: wire.CacheValue, Type: wire.Bytes}.Append(nil)
	ad := append(wire.AppendName(wire.AppendContext(nil, wire.CacheValue, ""), ""), h...)
	ct, err := k.Encrypt([]byte("value"), ad)
	require.NoError(t, err)
	_, err = e.Open(t.Context(), jobs.Meta{}, append(h, ct...))
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
}

func TestCompressionSavesAndIsBounded(t *testing.T) {
	t.Parallel()
	k := sealtest.Keyring(t)
	payload := bytes.Repeat([]byte(`{"amount":1}`), 1000)
	compressing, err := jobs.NewEncryptor(k, jobs.WithCompression(100))
	require.NoError(t, err)
	sealed, err := compressing.Seal(t.Context(), meta, payload)
	require.NoError(t, err)
	require.Less(t, len(sealed), len(payload)/10)

	plain, err := jobs.NewEncryptor(k)
	require.NoError(t, err)
	opened, err := plain.Open(t.Context(), meta, sealed)
	require.NoError(t, err, "compressed values open without the option")
	require.Equal(t, payload, opened)

	small, err := jobs.NewEncryptor(k, jobs.WithMaxPayloadBytes(len(payload)-1))
	require.NoError(t, err)
	_, err = small.Open(t.Context(), meta, sealed)
	require.ErrorIs(t, err, jobs.ErrTooLarge)
	require.True(t, jobs.Permanent(err))
	_, err = small.Seal(t.Context(), meta, payload)
	require.ErrorIs(t, err, jobs.ErrTooLarge)

	short, err := compressing.Seal(t.Context(), meta, payload[:99])
	require.NoError(t, err)
	require.Greater(t, len(short), 99, "under minBytes nothing is compressed")
}

// Tink's own AEAD works without the appending calls.
func TestPlainTinkAEAD(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	p, err := tinkaead.New(h)
	require.NoError(t, err)
	for name, a := range map[string]tink.AEADWithContext{"adapted": aead.WithContext(p), "foreign": foreign{p}} {
		e, err := jobs.NewEncryptor(a)
		require.NoError(t, err)
		require.NoError(t, e.Check(t.Context()), name)
		sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
		require.NoError(t, err)
		sealed[len(sealed)-1] ^= 1
		_, err = e.Open(t.Context(), meta, sealed)
		if name == "foreign" {
			// Its errors are not marked as refusals, so they may be an outage.
			require.ErrorIs(t, err, jobs.ErrKeyServiceUnavailable)
			require.False(t, jobs.Permanent(err))
		} else {
			require.ErrorIs(t, err, jobs.ErrUnauthentic)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = e.Open(ctx, meta, sealed)
		require.False(t, jobs.Permanent(err), "%s: a call that was given up is not a refusal", name)
	}
}

// The error of an AEAD that marks no refusals may be an outage, and is never final.
func TestForeignOutageIsNotARefusal(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{
		&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")},
		context.DeadlineExceeded,
	} {
		k := sealtest.Keyring(t)
		a := &severed{AEADWithContext: k}
		e, err := jobs.NewEncryptor(a)
		require.NoError(t, err)
		sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
		require.NoError(t, err)
		a.err = cause
		_, err = e.Open(t.Context(), meta, sealed)
		require.ErrorIs(t, err, jobs.ErrKeyServiceUnavailable)
		require.ErrorIs(t, err, cause)
		require.NotErrorIs(t, err, jobs.ErrUnauthentic)
		require.False(t, jobs.Permanent(err))
	}
}

type severed struct {
	tink.AEADWithContext
	err error
}

func (s *severed) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.AEADWithContext.DecryptWithContext(ctx, c, ad)
}

// foreign is an AEAD without the errors of package aead.
type foreign struct{ tink.AEAD }

func (f foreign) EncryptWithContext(_ context.Context, p, ad []byte) ([]byte, error) {
	return f.Encrypt(p, ad)
}

func (f foreign) DecryptWithContext(_ context.Context, c, ad []byte) ([]byte, error) {
	return f.Decrypt(c, ad)
}

func TestCheckFindsAEADsThatDoNotEncrypt(t *testing.T) {
	t.Parallel()
	require.NoError(t, newEncryptor(t).Check(t.Context()))
	for name, a := range map[string]tink.AEADWithContext{"plaintext": plaintextAEAD{}, "unbound": unbound{sealtest.Keyring(t)}, "dead": dead{}} {
		e, err := jobs.NewEncryptor(a)
		require.NoError(t, err)
		require.Error(t, e.Check(t.Context()), name)
	}
}

type plaintextAEAD struct{}

func (plaintextAEAD) EncryptWithContext(_ context.Context, p, _ []byte) ([]byte, error) {
	return append([]byte{0}, p...), nil
}
func (plaintextAEAD) DecryptWithContext(_ context.Context, c, _ []byte) ([]byte, error) {
	return c[1:], nil
}

type unbound struct{ k *aead.Keyring }

func (u unbound) EncryptWithContext(_ context.Context, p, _ []byte) ([]byte, error) {
	return u.k.Encrypt(p, nil)
}

func (u unbound) DecryptWithContext(_ context.Context, c, _ []byte) ([]byte, error) {
	return u.k.Decrypt(c, nil)
}

type dead struct{}

func (dead) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, aead.ErrKeyServiceUnavailable
}

func (dead) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, aead.ErrKeyServiceUnavailable
}

func TestNewEncryptorChecksItsArguments(t *testing.T) {
	t.Parallel()
	_, err := jobs.NewEncryptor(nil)
	require.Error(t, err)
	_, err = jobs.NewEncryptor((*aead.Keyring)(nil))
	require.Error(t, err)
	for name, o := range map[string]jobs.Option{
		"nil":            nil,
		"namespace":      jobs.WithNamespace(""),
		"namespace char": jobs.WithNamespace("a:b"),
		"namespace long": jobs.WithNamespace(strings.Repeat("a", 65)),
		"prf":            jobs.WithPRF(nil),
		"compression":    jobs.WithCompression(-1),
		"max":            jobs.WithMaxPayloadBytes(0),
		"max overflows":  jobs.WithMaxPayloadBytes(math.MaxInt/2 + 1),
		"binding":        jobs.WithOptionalBinding(8),
		"reload":         jobs.WithReload(nil),
		"logger":         jobs.WithLogger(nil),
		"meters":         jobs.WithMeterProvider(nil),
	} {
		_, err := jobs.NewEncryptor(sealtest.Keyring(t), o)
		require.Error(t, err, name)
	}
	_, err = jobs.NewEncryptor(sealtest.Keyring(t), jobs.WithNamespace(""), jobs.WithCompression(-1))
	require.ErrorContains(t, err, "namespace")
	require.ErrorContains(t, err, "WithCompression", "all mistakes at once")
	_, err = newEncryptor(t).Seal(t.Context(), jobs.Meta{Kind: 9}, nil)
	require.Error(t, err)
}

// Errors, logs and formatted values hold no secret.
func TestTextsHoldNoSecret(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	e := newEncryptor(t, jobs.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	m := jobs.Meta{Type: "canary-type", Queue: "canary-queue", ID: "canary-id"}
	sealed, err := e.Seal(t.Context(), m, []byte("canary-payload"))
	require.NoError(t, err)
	var said strings.Builder
	for _, b := range [][]byte{sealed[:20], append(sealed, 1), []byte("canary-plaintext")} {
		_, err := e.Open(t.Context(), m, b)
		require.Error(t, err)
		fmt.Fprintf(&said, "%v %+v %#v\n", err, err, err)
	}
	fmt.Fprintf(&said, "%v %+v %#v %s", e, e, e, e.LogValue())
	said.Write(log.Bytes())
	require.NotContains(t, said.String(), "canary")
	require.Contains(t, log.String(), "not_sealed")
}

func FuzzOpen(f *testing.F) {
	e := newEncryptor(f, jobs.WithCompression(0), jobs.WithMaxPayloadBytes(1<<16))
	for _, p := range []string{"", "payload", strings.Repeat("a", 1000)} {
		sealed, err := e.Seal(f.Context(), meta, []byte(p))
		require.NoError(f, err)
		f.Add(sealed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		_, err := e.Open(t.Context(), meta, b)
		require.Equal(t, before, b)
		if err != nil && !jobs.Permanent(err) && !errors.Is(err, jobs.ErrUnknownKey) {
			t.Fatalf("undocumented error %v", err)
		}
	})
}
