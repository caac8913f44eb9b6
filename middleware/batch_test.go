package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// reserved is a key that no entry of an application has.
const reserved = "sealcache.key-check"

// Every mixture of entries: each key is in the map, in the error or in neither.
func testMixedBatch(t *testing.T, b backing) {
	h := sealtest.Handle(t)
	both, _, _ := sealtest.Rotated(t, h)
	k := sealtest.KeyringOf(t, h)
	writer := sealed(t, b, k, middleware.WithNamespace("ns"))
	require.NoError(t, sealed(t, b, sealtest.KeyringOf(t, both), middleware.WithNamespace("ns")).Set(t.Context(), "newer", 1))
	require.NoError(t, writer.SetMany(t.Context(), map[string]any{
		"text": "v", "number": 42, "bytes": []byte{1}, "empty": "", "large": strings.Repeat("x", 2000),
	}))
	text, err := b.GetBytes(t.Context(), "ns:text")
	require.NoError(t, err)
	require.NoError(t, b.SetBytes(t.Context(), "ns:moved", text))
	require.NoError(t, b.SetBytes(t.Context(), "ns:plain", []byte("plain")))
	require.NoError(t, b.SetBytes(t.Context(), "ns:nothing", nil))
	require.NoError(t, b.SetBytes(t.Context(), "ns:huge", make([]byte, 100_000)))
	keys := []string{
		"text", "absent", "newer", "number", "moved", "text", "plain", "bytes", "empty", "large", "nothing", "huge", "text",
		reserved,
	}
	sound := map[string]any{"text": "v", "number": 42, "bytes": []byte{1}, "empty": ""}
	for _, c := range []struct {
		opts []middleware.Option
		errs map[string]error
		more map[string]any
	}{
		{nil, map[string]error{
			"newer": middleware.ErrUnknownKey, "moved": middleware.ErrUnauthentic, "plain": middleware.ErrNotSealed,
			"nothing": middleware.ErrNotSealed, "huge": middleware.ErrNotSealed,
		}, map[string]any{"large": strings.Repeat("x", 2000)}},
		{[]middleware.Option{middleware.WithMaxValueBytes(1000)}, map[string]error{
			"newer": middleware.ErrUnknownKey, "moved": middleware.ErrUnauthentic, "plain": middleware.ErrNotSealed,
			"nothing": middleware.ErrNotSealed, "huge": middleware.ErrTooLarge, "large": middleware.ErrTooLarge,
		}, nil},
		{[]middleware.Option{middleware.WithPlaintext(middleware.ReadPlaintext)}, map[string]error{
			"newer": middleware.ErrUnknownKey, "moved": middleware.ErrUnauthentic,
		}, map[string]any{"large": strings.Repeat("x", 2000), "plain": []byte("plain"), "nothing": []byte{}, "huge": make([]byte, 100_000)}},
		{[]middleware.Option{middleware.WithMissOnOpenFailure()}, nil, map[string]any{"large": strings.Repeat("x", 2000)}},
		{
			[]middleware.Option{middleware.WithMissOnOpenFailure(), middleware.WithMaxValueBytes(1000), middleware.WithPlaintext(middleware.SealOnRead)}, nil,
			map[string]any{"plain": []byte("plain"), "nothing": []byte{}},
		},
	} {
		s := sealed(t, b, k, append(c.opts, middleware.WithNamespace("ns"))...)
		got, err := s.GetMany(t.Context(), keys)
		var failed *middleware.BatchError
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, failed.Errors[reserved], middleware.ErrUnsupported)
		delete(failed.Errors, reserved)
		require.Len(t, failed.Errors, len(c.errs))
		for key, want := range c.errs {
			require.ErrorIs(t, failed.Errors[key], want, key)
			require.ErrorIs(t, err, want)
			single, singleErr := s.Get(t.Context(), key)
			require.Nil(t, single)
			require.ErrorIs(t, singleErr, want, "as Get says")
		}
		require.NotErrorIs(t, err, store.NotFound{})
		want := map[string]any{}
		for _, m := range []map[string]any{sound, c.more} {
			for key, value := range m {
				want[key] = value
			}
		}
		require.Equal(t, want, got)
	}
	plain, err := b.GetBytes(t.Context(), "ns:plain")
	require.NoError(t, err)
	_, err = middleware.Inspect(plain)
	require.NoError(t, err, "SealOnRead sealed it")

	// Set and Delete need not read: they replace and remove any value under the key.
	all := []string{"text", "absent", "newer", "moved", "plain", "large", "nothing", "huge"}
	items := map[string]any{}
	for _, key := range all[:5] {
		items[key] = "new " + key
	}
	require.NoError(t, writer.SetMany(t.Context(), items))
	got, err := writer.GetMany(t.Context(), all[:5])
	require.NoError(t, err)
	require.Equal(t, items, got)
	require.NoError(t, writer.DeleteMany(t.Context(), all))
	for _, key := range all {
		_, err := b.GetBytes(t.Context(), "ns:"+key)
		require.ErrorIs(t, err, store.NotFound{}, key)
	}
}

// SealOnRead seals the end of a plaintext entry on every kind of read.
func testSealOnReadSealsTheEnd(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t), middleware.WithNamespace("ns"), middleware.WithPlaintext(middleware.SealOnRead), middleware.WithAuthenticatedExpiry())
	for name, read := range map[string]func(key string) error{
		"Get":        func(key string) error { _, err := s.Get(t.Context(), key); return err },
		"GetWithTTL": func(key string) error { _, _, err := s.GetWithTTL(t.Context(), key); return err },
		"GetMany":    func(key string) error { _, err := s.GetMany(t.Context(), []string{key}); return err },
		"SetIfNotExists": func(key string) error {
			written, err := s.SetIfNotExists(t.Context(), key, "other")
			require.False(t, written)
			return err
		},
	} {
		require.NoError(t, b.Set(t.Context(), "ns:"+name, "plain", store.WithExpiration(time.Hour)))
		require.NoError(t, read(name), name)
		stored, err := b.GetBytes(t.Context(), "ns:"+name)
		require.NoError(t, err)
		info, err := middleware.Inspect(stored)
		require.NoError(t, err, name)
		require.True(t, info.Expires, name)
		require.WithinDuration(t, time.Now().Add(time.Hour), info.End, time.Minute, name)
	}
}

func testSetMany(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t), middleware.WithNamespace("ns"), middleware.WithDefaults(store.WithExpiration(time.Hour)))
	items := map[string]any{"a": "1", "b": []byte("2"), "c": 3, "d": 4.5, "e": true, "large": strings.Repeat("x", 100_000)}
	require.NoError(t, s.SetMany(t.Context(), items, store.WithTags([]string{"t", "u"})))
	keys := []string{"a", "b", "c", "d", "e", "large"}
	got, err := s.GetMany(t.Context(), keys)
	require.NoError(t, err)
	require.Equal(t, items, got)
	for _, key := range keys {
		stored, err := b.GetBytes(t.Context(), "ns:"+key)
		require.NoError(t, err)
		_, err = middleware.Inspect(stored)
		require.NoError(t, err)
		require.Greater(t, ttlOf(t, b, "ns:"+key), 59*time.Minute)
	}
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"u"})))
	got, err = s.GetMany(t.Context(), keys)
	require.NoError(t, err)
	require.Empty(t, got)

	// An item that cannot be stored fails alone.
	err = s.SetMany(t.Context(), map[string]any{"a": "1", "struct": struct{}{}, "nil": nil, reserved: 1, "b": 2}, store.WithExpiration(time.Minute))
	var failed *middleware.BatchError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Errors, 3)
	require.ErrorIs(t, failed.Errors["struct"], middleware.ErrUnsupportedType)
	require.ErrorIs(t, failed.Errors["nil"], middleware.ErrUnsupportedType)
	got, err = s.GetMany(t.Context(), keys)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": "1", "b": 2}, got)
	require.LessOrEqual(t, ttlOf(t, b, "ns:a"), time.Minute)

	// Options that no entry can have are one error, and nothing is written.
	for _, o := range []store.Option{nil, store.WithExpiration(-time.Second)} {
		err = s.SetMany(t.Context(), map[string]any{"new": 1}, o)
		require.Error(t, err)
		require.NotErrorAs(t, err, &failed)
	}
	got, err = s.GetMany(t.Context(), []string{"new"})
	require.NoError(t, err)
	require.Empty(t, got)

	require.NoError(t, s.DeleteMany(t.Context(), []string{"a", "absent", "a"}))
	got, err = s.GetMany(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"b": 2}, got)
	require.NoError(t, s.SetMany(t.Context(), nil))
	require.NoError(t, s.DeleteMany(t.Context(), nil))
	got, err = s.GetMany(t.Context(), nil)
	require.NoError(t, err)
	require.NotNil(t, got)

	// More than one part, by number and by size.
	many := map[string]any{}
	for i := range 2500 {
		many[fmt.Sprint(i)] = i
	}
	for i := range 6 {
		many[fmt.Sprint("large", i)] = strings.Repeat(fmt.Sprint(i%10), 1<<20)
	}
	require.NoError(t, s.SetMany(t.Context(), many))
	keys = nil
	for key := range many {
		keys = append(keys, key)
	}
	got, err = s.GetMany(t.Context(), keys)
	require.NoError(t, err)
	require.Equal(t, many, got)
	require.NoError(t, s.DeleteMany(t.Context(), keys))
	got, err = s.GetMany(t.Context(), keys)
	require.NoError(t, err)
	require.Empty(t, got)

	// WritePlaintext writes what Set writes.
	w := sealed(t, b, keyring(t), middleware.WithPlaintext(middleware.WritePlaintext))
	require.NoError(t, w.SetMany(t.Context(), map[string]any{"p": "text", "q": 7}))
	for key, want := range map[string]string{"p": "text", "q": "7"} {
		stored, err := b.GetBytes(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, want, string(stored))
	}
}

func testCanceledBatch(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, get := s.GetMany(ctx, []string{"a", "b"})
	for operation, err := range map[string]error{
		"GetMany": get, "SetMany": s.SetMany(ctx, map[string]any{"a": 1, "b": 2}), "DeleteMany": s.DeleteMany(ctx, []string{"a", "b"}),
	} {
		require.ErrorIs(t, err, context.Canceled, operation)
		var failed *middleware.BatchError
		require.ErrorAs(t, err, &failed, operation)
		require.Len(t, failed.Errors, 2)
	}
}

// Over a store of gocache's interface alone, batches are loops.
func TestBatchesOverAnyStore(t *testing.T) {
	t.Parallel()
	p := newPlain("plain")
	s := sealed(t, p, keyring(t))
	var failed *middleware.BatchError
	require.ErrorAs(t, s.SetMany(t.Context(), map[string]any{"a": 1, "b": "2", "struct": struct{}{}}, store.WithExpiration(time.Hour)), &failed)
	require.Len(t, failed.Errors, 1)
	require.ErrorIs(t, failed.Errors["struct"], middleware.ErrUnsupportedType)
	require.Equal(t, time.Hour, p.options["a"].Expiration)
	p.values["planted"] = "plain"
	got, err := s.GetMany(t.Context(), []string{"a", "b", "absent", "planted"})
	require.ErrorIs(t, err, middleware.ErrNotSealed)
	require.Equal(t, map[string]any{"a": 1, "b": "2"}, got)
	require.NoError(t, s.DeleteMany(t.Context(), []string{"a", "absent"}))
	got, err = s.GetMany(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"b": "2"}, got)
	p.err = errors.New("down")
	require.ErrorAs(t, s.DeleteMany(t.Context(), []string{"a", "b"}), &failed)
	require.Len(t, failed.Errors, 2)
	require.ErrorIs(t, failed, p.err)
}

// pipelines counts what a client sends.
type pipelines struct{ pipelines, commands, single atomic.Int64 }

func (p *pipelines) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (p *pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "hello" { // of a new connection
			p.single.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (p *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.pipelines.Add(1)
		p.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

func TestABatchIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.ClientOptions()
	options.MaxRetries, options.DialerRetries = -1, 1
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Ping(t.Context()).Err())
	var sent pipelines
	client.AddHook(&sent)
	s := sealed(t, emptied(t, client), keyring(t))
	items, keys := map[string]any{}, []string{}
	for i := range 100 {
		keys = append(keys, fmt.Sprint(i))
		items[keys[i]] = i
	}
	reset := func() { sent.pipelines.Store(0); sent.commands.Store(0); sent.single.Store(0) }
	for operation, call := range map[string]func() error{
		"SetMany":    func() error { return s.SetMany(t.Context(), items) },
		"GetMany":    func() error { _, err := s.GetMany(t.Context(), slices.Concat(keys, keys)); return err },
		"DeleteMany": func() error { return s.DeleteMany(t.Context(), keys) },
	} {
		reset()
		require.NoError(t, call())
		require.EqualValues(t, 1, sent.pipelines.Load(), operation)
		require.EqualValues(t, 100, sent.commands.Load(), operation)
		require.Zero(t, sent.single.Load(), operation)
	}
	reset()
	_, err := s.GetMany(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, s.SetMany(t.Context(), map[string]any{}))
	require.NoError(t, s.DeleteMany(t.Context(), []string{}))
	require.Zero(t, sent.pipelines.Load()+sent.single.Load(), "an empty batch sends nothing")

	// An outage is an error for every key.
	require.NoError(t, server.Kill())
	_, err = s.GetMany(t.Context(), keys)
	for operation, err := range map[string]error{
		"GetMany": err, "SetMany": s.SetMany(t.Context(), items), "DeleteMany": s.DeleteMany(t.Context(), keys),
	} {
		var failed *middleware.BatchError
		require.ErrorAs(t, err, &failed, operation)
		require.Len(t, failed.Errors, 100, operation)
		require.NotErrorIs(t, err, store.NotFound{}, operation)
		require.Contains(t, err.Error(), "middleware: "+operation+": 100 of 100 entries failed")
	}
}

// Of a Cluster with one node down, the keys of the others are served.
func TestABatchOverAHalvedCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, "--cluster-require-full-coverage", "no")
	options := cluster.ClientOptions()
	options.MaxRedirects, options.DialerRetries = -1, 1
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { _ = client.Close() })
	s := sealed(t, emptied(t, client), keyring(t))
	items, keys := map[string]any{}, []string{}
	for i := range 60 {
		keys = append(keys, fmt.Sprint(i))
		items[keys[i]] = i
	}
	require.NoError(t, s.SetMany(t.Context(), items))
	require.NoError(t, cluster.Nodes()[1].Kill())
	got, err := s.GetMany(t.Context(), keys)
	var failed *middleware.BatchError
	require.ErrorAs(t, err, &failed)
	require.NotEmpty(t, got)
	require.Len(t, keys, len(got)+len(failed.Errors), "each key is in one of the two")
	for key, value := range got {
		require.Equal(t, items[key], value)
		require.NotContains(t, failed.Errors, key)
	}
}

// The error of a batch shows no key in any form, since a key may be a token.
func TestBatchErrorsNameNoKeys(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t))
	const token = "session-token"
	require.NoError(t, m.SetBytes(t.Context(), token, []byte("planted")))
	require.NoError(t, s.Set(t.Context(), "other", 1))
	later := raw(t, m, "other")
	later[2] = 2 // a later version of the format
	require.NoError(t, m.SetBytes(t.Context(), "other", later))
	_, err := s.GetMany(t.Context(), []string{token, "absent", "other"})
	require.Error(t, err)
	require.Equal(t, "middleware: GetMany: 2 of 3 entries failed: not sealed (1), unsupported format (1)", err.Error())
	var failed *middleware.BatchError
	require.ErrorAs(t, err, &failed)
	require.Contains(t, failed.Errors, token)
	require.Len(t, failed.Unwrap(), 2)
	encoded, jsonErr := json.Marshal(failed)
	require.NoError(t, jsonErr)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Error("failed", "error", err, "same", *failed, "pointer", failed)
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "error", err, "same", *failed, "pointer", failed)
	for _, text := range []string{
		fmt.Sprint(err), fmt.Sprintf("%v %+v %#v %s %q %x %d", err, err, err, err, err, err, err), fmt.Sprintf("%v %+v %#v", *failed, *failed, *failed),
		fmt.Sprintf("%#v", fmt.Errorf("wrapped: %w", err)), string(encoded), log.String(),
	} {
		require.NotContains(t, text, token)
		require.NotContains(t, text, fmt.Sprintf("%x", token))
	}
}

// keeping is a BatchStore that keeps the values of a failed call, as a connection may.
type keeping struct {
	*memorystore.Store
	kept [][]byte
}

func (k *keeping) Capabilities() (owner any, names []string) {
	_, names = k.Store.Capabilities()
	return k, names
}

func (k *keeping) SetBytesMany(_ context.Context, keys []string, values [][]byte, _ ...store.Option) []error {
	k.kept = append(k.kept, values...)
	errs := make([]error, len(keys))
	errs[0] = errors.New("connection lost")
	return errs
}

func TestBuffersOfAFailedBatchAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	k := &keeping{Store: memory(t)}
	s := sealed(t, k, keyring(t))
	var before [][]byte
	for i := range 50 {
		err := s.SetMany(t.Context(), map[string]any{"a": fmt.Sprint("value", i), "b": i})
		require.Error(t, err)
		for _, b := range k.kept[len(before):] {
			before = append(before, bytes.Clone(b))
		}
		require.NoError(t, s.Set(t.Context(), "c", "another value"))
	}
	require.Equal(t, before, k.kept)
}
