package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// A value past its sealed expiry is not opened: the application takes it for absent.
func TestOpenExpired(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	a := sealtest.Keyring(t)
	seals, err := box.New(a, wire.CacheValue, "ns")
	require.NoError(t, err)
	for key, end := range map[string]time.Time{"past": time.Now().Add(-time.Minute), "now": time.Now().Add(time.Minute)} {
		sealed, err := seals.Seal(t.Context(), nil, wire.Header{Kind: wire.CacheValue, Type: wire.Bytes, Flags: wire.Expires, End: end.UnixMilli()}, []byte("v"), key)
		require.NoError(t, err)
		require.NoError(t, rdb.Set(t.Context(), "ns:"+key, sealed, 0).Err())
	}
	_, err = audit.Open(t.Context(), rdb, "ns", "past", a)
	require.ErrorIs(t, err, audit.ErrExpired)
	v, err := audit.Open(t.Context(), rdb, "ns", "now", a)
	require.NoError(t, err)
	require.Equal(t, "v", string(v.Text))
}

// One node of a Cluster does not have the entries of the others. Inspect and Open say what is wrong with the client.
func TestInspectAtOneNodeOfACluster(t *testing.T) {
	t.Parallel()
	node := shared.Cluster.Nodes()[0].Client(t)
	refused := 0
	for i := range 64 {
		name := fmt.Sprint("elsewhere ", i)
		_, err := audit.Inspect(t.Context(), node, name)
		if errors.Is(err, audit.ErrNoEntry) {
			continue // a name of this node
		}
		refused++
		require.ErrorIs(t, err, audit.ErrClusterNode)
		require.ErrorIs(t, err, audit.ErrConfig)
		_, err = audit.Open(t.Context(), node, "", name, sealtest.Keyring(t))
		require.ErrorIs(t, err, audit.ErrClusterNode)
	}
	require.Positive(t, refused)
}

// movedReply is the reply of Redis for a key of another node. go-redis recognizes such errors by RedisError.
type movedReply struct{}

func (movedReply) Error() string { return "MOVED 1 127.0.0.1:1" }
func (movedReply) RedisError()   {}

// movedHook answers every command with movedReply, as a Cluster does while its slots go to and fro.
type movedHook struct{}

func (movedHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (movedHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { cmd.SetErr(movedReply{}); return movedReply{} }
}

func (movedHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			cmd.SetErr(movedReply{})
		}
		return movedReply{}
	}
}

// A client of a Cluster gets MOVED at last while slots go to and fro. This does not make it the wrong client.
func TestInspectWhileSlotsMove(t *testing.T) {
	t.Parallel()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}) // never dialed
	defer cluster.Close()
	cluster.AddHook(movedHook{})
	node := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer node.Close()
	node.AddHook(movedHook{})
	for _, read := range []func(redis.UniversalClient) error{
		func(c redis.UniversalClient) error { _, err := audit.Inspect(t.Context(), c, "k"); return err },
		func(c redis.UniversalClient) error { _, err := audit.Open(t.Context(), c, "", "k"); return err },
	} {
		require.ErrorIs(t, read(node), audit.ErrClusterNode)
		err := read(cluster)
		require.ErrorContains(t, err, "audit: read the entry")
		require.NotErrorIs(t, err, audit.ErrConfig)
	}
}

func TestInspectAndOpen(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		h := sealtest.Handle(t)
		a := sealtest.KeyringOf(t, h)
		app := migratetest.SealedStore(t, rdb, a, ns)
		require.NoError(t, app.Set(ctx, "k", int64(42), store.WithExpiration(time.Hour)))
		require.NoError(t, rdb.Set(ctx, ns+":plaintext", "secret", 0).Err())
		require.NoError(t, rdb.LPush(ctx, ns+":list", "x").Err())

		e, err := audit.Inspect(ctx, rdb, ns+":k")
		require.NoError(t, err)
		require.Equal(t, "sealed", e.Form)
		require.Equal(t, "int64", e.Info.Type)
		require.Equal(t, fmt.Sprint("key ", h.KeysetInfo().GetPrimaryKeyId()), e.Key)
		require.InDelta(t, time.Hour, e.TTL, float64(time.Minute))
		e, err = audit.Inspect(ctx, rdb, ns+":plaintext")
		require.NoError(t, err)
		require.Equal(t, &audit.Entry{Type: "string", Bytes: 6, Form: "plaintext"}, e)
		require.NoError(t, rdb.Do(ctx, "pexpire", ns+":plaintext", int64(1)<<50).Err())
		e, err = audit.Inspect(ctx, rdb, ns+":plaintext")
		require.NoError(t, err)
		require.Greater(t, e.TTL, 292*365*24*time.Hour, "a Duration does not hold it")
		require.NoError(t, rdb.Set(ctx, ns+":planted", "\xC1\x5C\x01\x01\x01\x00and plaintext behind this header", 0).Err())
		e, err = audit.Inspect(ctx, rdb, ns+":planted")
		require.NoError(t, err)
		require.Equal(t, "unknown format", e.Form)
		e, err = audit.Inspect(ctx, rdb, ns+":list")
		require.NoError(t, err)
		require.Equal(t, &audit.Entry{Type: "list", Form: "other"}, e)
		_, err = audit.Inspect(ctx, rdb, ns+":absent")
		require.ErrorIs(t, err, audit.ErrNoEntry)

		v, err := audit.Open(ctx, rdb, ns, "k", a)
		require.NoError(t, err)
		require.Equal(t, "42", string(v.Text))
		require.True(t, v.Sealed)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", v, v, v, v), "42")
		v, err = audit.Open(ctx, rdb, ns, "plaintext")
		require.NoError(t, err)
		require.False(t, v.Sealed)
		_, err = audit.Open(ctx, rdb, ns, "k")
		require.ErrorIs(t, err, middleware.ErrUnknownKey)
		_, err = audit.Open(ctx, rdb, ns, "k", sealtest.Keyring(t))
		require.ErrorIs(t, err, middleware.ErrUnknownKey)
		_, err = audit.Open(ctx, rdb, "", ns+":k", a)
		require.ErrorIs(t, err, middleware.ErrUnauthentic, "it is bound to its namespace")
		_, err = audit.Open(ctx, rdb, ns, "absent", a)
		require.ErrorIs(t, err, audit.ErrNoEntry)
	})
}

// An attacker plants a huge entry. Only its header is read, and the report has its size.
func TestInspectDoesNotReadAHugeEntry(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	rdb, a := server.Client(t), sealtest.Keyring(t)
	app := migratetest.SealedStore(t, rdb, a, "ns")
	require.NoError(t, app.Set(ctx, "k", strings.Repeat("x", 8<<20)))
	sent := server.Sent(t)
	e, err := audit.Inspect(ctx, rdb, "ns:k")
	require.NoError(t, err)
	require.Less(t, server.Sent(t)-sent, int64(1<<20))
	size := rdb.StrLen(ctx, "ns:k").Val()
	require.Equal(t, "sealed", e.Form)
	require.Equal(t, size, e.Bytes)
	require.EqualValues(t, size, e.Info.StoredBytes)
	require.EqualValues(t, size, e.Info.HeaderBytes+e.Info.CiphertextBytes)
}
