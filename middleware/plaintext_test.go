package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sealcache/sealcache/middleware"
)

func isSealed(t testing.TB, b []byte) bool {
	t.Helper()
	_, err := middleware.Inspect(b)
	return err == nil
}

func TestReadPlaintext(t *testing.T) {
	t.Parallel()
	backing, k := newPlain("go-cache"), keyring(t)
	s := sealed(t, backing, k, middleware.WithPlaintext(middleware.ReadPlaintext))
	backing.values["text"], backing.values["bytes"], backing.values["int"] = "clear", []byte("clear"), 42
	for key, want := range map[string]any{"text": "clear", "bytes": []byte("clear"), "int": 42} {
		got, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		require.Exactly(t, want, got)
	}
	got, err := s.Get(t.Context(), "bytes")
	require.NoError(t, err)
	clear(got.([]byte))
	require.Equal(t, "clear", string(backing.values["bytes"].([]byte)), "the caller gets its own bytes")

	require.NoError(t, s.Set(t.Context(), "text", "new"))
	require.True(t, isSealed(t, backing.raw(t, "text")), "writes are sealed")
	got, err = s.Get(t.Context(), "text")
	require.NoError(t, err)
	require.Equal(t, "new", got)

	// A value with a sealed header is never read as plaintext.
	bad := backing.raw(t, "text")
	bad[len(bad)-1] ^= 1
	backing.values["text"] = bad
	_, err = s.Get(t.Context(), "text")
	require.ErrorIs(t, err, middleware.ErrUnauthentic)
}

func TestSealOnReadNeedsASwappingStore(t *testing.T) {
	t.Parallel()
	_, err := middleware.New(newPlain("redis"), keyring(t), middleware.WithPlaintext(middleware.SealOnRead))
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorIs(t, err, store.ErrNotSupported)
	require.ErrorContains(t, err, "package redisstore")
}

func TestSealOnRead(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, envelope(t), middleware.WithNamespace("n"), middleware.WithPlaintext(middleware.SealOnRead))
	require.NoError(t, m.Set(t.Context(), "n:k", "clear value", store.WithExpiration(time.Hour)))
	require.NoError(t, m.Set(t.Context(), "n:forever", "clear value"))
	for range 2 {
		got, ttl, err := s.GetWithTTL(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "clear value", text(t, got))
		require.InDelta(t, time.Hour, ttl, float64(time.Minute))
		got, ttl, err = s.GetWithTTL(t.Context(), "forever")
		require.NoError(t, err)
		require.Equal(t, "clear value", text(t, got))
		require.Zero(t, ttl)
		require.True(t, isSealed(t, raw(t, m, "n:k")))
		require.True(t, isSealed(t, raw(t, m, "n:forever")))
	}
	strict := sealed(t, m, keyring(t), middleware.WithNamespace("n"))
	_, err := strict.Get(t.Context(), "k")
	require.Error(t, err)
}

// Sealing on read keeps every byte, also fields that this version of the
// application's type does not have.
func TestSealOnReadKeepsTheBytes(t *testing.T) {
	t.Parallel()
	packed, err := msgpack.Marshal(map[string]any{"Name": "Ada", "AddedLater": 7})
	require.NoError(t, err)
	message := protowire.AppendTag(nil, 5, protowire.VarintType) // Timestamp does not have this field
	message = protowire.AppendVarint(message, 7)
	for name, c := range map[string]struct {
		codec  middleware.Codec
		stored []byte
	}{
		"json":     {middleware.JSON[user](), []byte(`{ "Name":"Ada", "AddedLater":7 }`)},
		"msgpack":  {middleware.MsgPack[user](), packed},
		"protobuf": {middleware.Proto[*timestamppb.Timestamp](), message},
	} {
		m, a := memory(t), keyring(t)
		s := sealed(t, m, a, middleware.WithPlaintext(middleware.SealOnRead), middleware.WithCodec(c.codec))
		require.NoError(t, m.SetBytes(t.Context(), "k", c.stored))
		before, err := s.Get(t.Context(), "k")
		require.NoError(t, err, name)
		require.True(t, isSealed(t, raw(t, m, "k")), name)
		after, err := s.Get(t.Context(), "k")
		require.NoError(t, err, name)
		require.EqualExportedValues(t, before, after, name)

		later := sealed(t, m, a, middleware.WithCodec(verbatim(c.codec.Format())))
		kept, err := later.Get(t.Context(), "k")
		require.NoError(t, err, name)
		require.Equal(t, c.stored, kept, name)
	}
}

// verbatim is a codec that returns the encoded bytes.
type verbatim middleware.Format

func (v verbatim) Format() middleware.Format     { return middleware.Format(v) }
func (verbatim) Encode(any) ([]byte, error)      { return nil, middleware.ErrUnsupportedType }
func (verbatim) Decode(data []byte) (any, error) { return data, nil }

func text(t testing.TB, v any) string {
	t.Helper()
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	require.Failf(t, "neither string nor bytes", "%T", v)
	return ""
}

// swapLosing loses every swap to another writer.
type swapLosing struct {
	middleware.BytesStore
	store.StoreInterface
	before func()
	swap   func(ctx context.Context, key string, old []byte, tail int, new []byte, ttl time.Duration) (bool, error)
}

func (s *swapLosing) Capabilities() (owner any, names []string) {
	return s, []string{"BytesStore", "Swapper"}
}

func (s *swapLosing) CompareAndSwap(ctx context.Context, key string, old []byte, tail int, new []byte, ttl time.Duration) (bool, error) {
	s.before()
	return s.swap(ctx, key, old, tail, new, ttl)
}

// A write between the read and the reseal is not lost.
func TestSealOnReadLosesNoUpdate(t *testing.T) {
	t.Parallel()
	m := memory(t)
	a := keyring(t)
	writer := sealed(t, m, a)
	b := &swapLosing{BytesStore: m, StoreInterface: m, swap: m.CompareAndSwap, before: func() {
		require.NoError(t, writer.Set(t.Context(), "k", "newer"))
	}}
	s := sealed(t, b, a, middleware.WithPlaintext(middleware.SealOnRead))
	require.NoError(t, m.Set(t.Context(), "k", "clear"))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "clear", text(t, got))
	got, err = s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "newer", got)
}

// A reseal that fails does not fail the read.
func TestSealOnReadToleratesItsOwnFailure(t *testing.T) {
	t.Parallel()
	m := memory(t)
	b := &swapLosing{BytesStore: m, StoreInterface: m, before: func() {}, swap: func(context.Context, string, []byte, int, []byte, time.Duration) (bool, error) {
		return false, errors.New("read only")
	}}
	s := sealed(t, b, keyring(t), middleware.WithPlaintext(middleware.SealOnRead))
	require.NoError(t, m.Set(t.Context(), "k", "clear"))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "clear", text(t, got))
}

func TestWritePlaintext(t *testing.T) {
	t.Parallel()
	backing, k := newPlain("go-cache"), keyring(t)
	s := sealed(t, backing, k, middleware.WithNamespace("n"), middleware.WithPlaintext(middleware.WritePlaintext), middleware.WithCodec(middleware.JSON[user]()))
	strict := sealed(t, backing, k, middleware.WithNamespace("n"))

	for key, v := range map[string]any{"string": "clear", "int": 42, "bytes": []byte("clear"), "bool": true} {
		require.NoError(t, s.Set(t.Context(), key, v))
		require.Exactly(t, v, backing.values["n:"+key], "as the backing store would hold it")
		got, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		require.Exactly(t, v, got)
		_, err = strict.Get(t.Context(), key)
		require.ErrorIs(t, err, middleware.ErrNotSealed)
	}
	require.NoError(t, s.Set(t.Context(), "user", user{Name: "Ada"}))
	require.Contains(t, string(backing.raw(t, "n:user")), `"Name":"Ada"`)

	require.NoError(t, strict.Set(t.Context(), "k", "sealed"))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "sealed", got)

	require.ErrorIs(t, s.Set(t.Context(), "k", "\xc1\x5c..."), middleware.ErrUnsupportedFormat, "it could not be told from a sealed value")
	require.ErrorIs(t, s.Set(t.Context(), "k", named("x")), middleware.ErrUnsupportedType)
}

// A codec's bytes that start like a sealed value would be refused by every reader.
func TestWritePlaintextRefusesWhatLooksSealed(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithPlaintext(middleware.WritePlaintext), middleware.WithCodec(sealedLooking{}))
	err := s.Set(t.Context(), "k", named("x"))
	require.ErrorIs(t, err, middleware.ErrUnsupportedFormat)
	require.EqualError(t, err, "middleware: plaintext that starts like a sealed value cannot be stored (use ReadPlaintext, which seals it)")
	require.ErrorIs(t, s.SetMany(t.Context(), map[string]any{"k": named("x")}), middleware.ErrUnsupportedFormat)
}

// sealedLooking is a codec of the application's own.
type sealedLooking struct{}

func (sealedLooking) Format() middleware.Format    { return middleware.FormatCustom }
func (sealedLooking) Encode(any) ([]byte, error)   { return []byte("\xc1\x5c..."), nil }
func (sealedLooking) Decode(b []byte) (any, error) { return b, nil }

func TestPlaintextUntilEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, p := range []middleware.PlaintextPolicy{middleware.ReadPlaintext, middleware.WritePlaintext} {
			backing := newPlain("go-cache")
			backing.values["k"] = "clear"
			s := sealed(t, backing, keyring(t), middleware.WithPlaintext(p), middleware.WithPlaintextUntil(time.Now().Add(time.Hour)))
			_, err := s.Get(t.Context(), "k")
			require.NoError(t, err)
			time.Sleep(time.Hour)
			_, err = s.Get(t.Context(), "k")
			require.ErrorIs(t, err, middleware.ErrNotSealed)
			require.NoError(t, s.Set(t.Context(), "k", "new"))
			require.True(t, isSealed(t, backing.raw(t, "k")))
		}
	})
}

func TestToleranceIsAnnounced(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts []middleware.Option
		want string
	}{
		"strict":     {nil, ""},
		"no end":     {[]middleware.Option{middleware.WithPlaintext(middleware.ReadPlaintext)}, "level=WARN msg=\"sealcache: plaintext values are accepted without a time limit"},
		"with end":   {[]middleware.Option{middleware.WithPlaintext(middleware.ReadPlaintext), middleware.WithPlaintextUntil(time.Now().Add(time.Hour))}, "level=INFO"},
		"past end":   {[]middleware.Option{middleware.WithPlaintext(middleware.ReadPlaintext), middleware.WithPlaintextUntil(time.Now().Add(-time.Hour))}, "time of WithPlaintextUntil has passed"},
		"write, end": {[]middleware.Option{middleware.WithPlaintext(middleware.WritePlaintext)}, "policy=write"},
	} {
		var log bytes.Buffer
		sealed(t, newPlain("x"), keyring(t), append(c.opts, middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
		if c.want == "" {
			require.Empty(t, log.String(), name)
		} else {
			require.Contains(t, log.String(), c.want, name)
			require.Equal(t, 1, strings.Count(log.String(), "\n"), name)
		}
	}
}

// While plaintext values are tolerated they keep the Go type of the store. A store with one codec reads its own
// plaintext.
func TestTolerantPoliciesKeepTypes(t *testing.T) {
	t.Parallel()
	for _, policy := range []middleware.PlaintextPolicy{middleware.ReadPlaintext, middleware.SealOnRead, middleware.WritePlaintext} {
		m := memory(t)
		s := sealed(t, m, envelope(t), middleware.WithPlaintext(policy), middleware.WithCodec(middleware.JSON[user]()))
		require.NoError(t, m.Set(t.Context(), "string", "clear"))
		require.NoError(t, m.Set(t.Context(), "bytes", []byte("clear")))
		require.NoError(t, m.Set(t.Context(), "json", `{"Name":"Ada"}`))
		for range 2 { // with SealOnRead the second read is of a sealed value
			for key, want := range map[string]any{"string": "clear", "bytes": []byte("clear"), "json": user{Name: "Ada"}} {
				got, err := s.Get(t.Context(), key)
				require.NoError(t, err)
				require.Exactly(t, want, got, "%s %s", policy, key)
			}
		}
		users := cache.New[user](s)
		require.NoError(t, users.Set(t.Context(), "u", user{Name: "Grace"}))
		got, err := users.Get(t.Context(), "u")
		require.NoError(t, err, policy)
		require.Equal(t, "Grace", got.Name)
	}
}

// With WritePlaintext the replacement of an unreadable value is plaintext.
func TestReplacingFollowsThePolicy(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	require.NoError(t, sealed(t, m, a).Set(t.Context(), "other", "moved"))
	moved := raw(t, m, "other")
	options := []middleware.Option{middleware.WithMissOnOpenFailure(), middleware.WithPlaintext(middleware.WritePlaintext)}
	for name, backing := range map[string]store.StoreInterface{"AtomicStore": m, "Swapper": &swapperOnly{m}} {
		for text, value := range map[string]any{"clear": "clear", "42": 42, "1.5": 1.5, "1": true} {
			require.NoError(t, m.SetBytes(t.Context(), "k", moved))
			written, err := sealed(t, backing, a, options...).SetIfNotExists(t.Context(), "k", value)
			require.NoError(t, err, name)
			require.True(t, written, name)
			require.Equal(t, text, string(raw(t, m, "k")), name)
		}
		_, err := sealed(t, backing, a, options...).SetIfNotExists(t.Context(), "k", time.Second)
		require.ErrorIs(t, err, middleware.ErrUnsupportedType, name)
	}
}
