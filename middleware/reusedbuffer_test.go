package middleware

import (
	"context"
	"net"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
)

type otherClient struct{ *redis.Client }

type otherStore struct{ *gocacheredis.RedisStore }

func TestReusedBuffersOverGocache(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	for _, s := range []store.StoreInterface{gocacheredis.NewRedis(client), gocacheredis.NewRedis(cluster)} {
		require.True(t, acceptsReusedBuffers(s))
	}
	for _, s := range []store.StoreInterface{
		gocacheredis.NewRedis(otherClient{client}), gocacheredis.NewRedis(nil), otherStore{gocacheredis.NewRedis(client)},
		&otherStore{gocacheredis.NewRedis(client)},
	} {
		require.False(t, acceptsReusedBuffers(s), "what is not known may want bytes")
	}
}

func TestReusedBuffer(t *testing.T) {
	t.Parallel()
	once := &reusedBuffer{sealed: []byte("sealed")}
	require.False(t, once.end(), "no reader has asked yet")
	b, err := once.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, "sealed", string(b))
	require.True(t, once.end())
	_, err = once.MarshalBinary()
	require.ErrorIs(t, err, errReadAfterSet)

	twice := &reusedBuffer{sealed: []byte("sealed")}
	for range 2 {
		_, err = twice.MarshalBinary()
		require.NoError(t, err)
	}
	require.False(t, twice.end(), "one of the two may still read")
	_, err = twice.MarshalBinary()
	require.NoError(t, err)
}

// mirror is a hook that keeps the value of a command. It sends every write to a second server, during and after the
// write to the first one.
type mirror struct {
	to   *redis.Client
	jobs chan []any
}

func (m mirror) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (m mirror) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (m mirror) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "set" {
			m.jobs <- cmd.Args()
		}
		return next(ctx, cmd)
	}
}

// A hook that keeps a value never sees the bytes of another value.
func TestReusedBuffersNeverShowAnotherValue(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	m := mirror{to: second, jobs: make(chan []any, 8)}
	mirrored := make(chan int)
	go func() {
		n := 0
		for args := range m.jobs {
			if second.Do(t.Context(), args...).Err() == nil {
				n++
			}
		}
		mirrored <- n
	}()
	first.AddHook(m)

	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	s, err := New(gocacheredis.NewRedis(first), k)
	require.NoError(t, err)
	require.True(t, s.reusedBuffers)
	copied, err := New(gocacheredis.NewRedis(second), k)
	require.NoError(t, err)
	const n = 500
	key := func(i int) string { return "key-" + string(rune('a'+i%20)) + string(rune('a'+i/20)) }
	value := func(i int) string { return string(make([]byte, 100+i*10)) + key(i) }
	for i := range n {
		require.NoError(t, s.Set(t.Context(), key(i), value(i)))
	}
	close(m.jobs)
	t.Logf("%d of %d values were mirrored in time", <-mirrored, n)
	for i := range n {
		got, err := s.Get(t.Context(), key(i))
		require.NoError(t, err)
		require.Equal(t, value(i), got)
		got, err = copied.Get(t.Context(), key(i))
		if isMiss(err) {
			continue // asked too late, which is an error
		}
		require.NoError(t, err, "what was mirrored is whole")
		require.Equal(t, value(i), got)
	}
}
