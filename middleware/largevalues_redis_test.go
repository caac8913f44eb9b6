package middleware_test

import (
	"bytes"
	"crypto/sha256"
	"runtime"
	"testing"
	"time"

	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

// Not parallel, because it holds several hundred MiB for a moment.
func TestHundredMebibytesOverRedis(t *testing.T) { //nolint:paralleltest // see above
	const size = 100 << 20
	server := redistest.Start(t)
	value := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	digest := sha256.Sum256(value)
	backing := overRedis(t, server, "read_timeout=1m", "write_timeout=1m")
	s := sealed(t, backing, envelope(t))
	require.NoError(t, s.Set(within(t, 2*time.Minute), "big", value))
	require.Equal(t, digest, sha256.Sum256(value), "the caller's value is not changed")
	got, ttl, err := s.GetWithTTL(within(t, 2*time.Minute), "big")
	require.NoError(t, err)
	require.Zero(t, ttl)
	require.Equal(t, digest, sha256.Sum256(got.([]byte)))
	n, err := server.Client(t).StrLen(t.Context(), "big").Result()
	require.NoError(t, err)
	require.LessOrEqual(t, n, int64(size+107))

	// A value is altered in Redis. gocache's own store, which returns strings, refuses it, too.
	at, err := server.Client(t).GetRange(t.Context(), "big", size/2, size/2).Bytes()
	require.NoError(t, err)
	require.NoError(t, server.Client(t).SetRange(t.Context(), "big", size/2, string([]byte{at[0] ^ 1})).Err())
	options := server.ClientOptions()
	options.ReadTimeout, options.WriteTimeout = time.Minute, time.Minute
	patient := redis.NewClient(options)
	t.Cleanup(func() { _ = patient.Close() })
	other := sealed(t, gocacheredis.NewRedis(patient), envelope(t))
	_, err = s.Get(within(t, time.Minute), "big")
	require.ErrorIs(t, err, middleware.ErrUnauthentic, "one byte of a hundred million")
	require.NoError(t, other.Set(within(t, time.Minute), "big", value))
	got, err = other.Get(within(t, time.Minute), "big")
	require.NoError(t, err)
	require.Equal(t, digest, sha256.Sum256(got.([]byte)))

	limited := sealed(t, backing, envelope(t), middleware.WithMaxValueBytes(size-1))
	require.ErrorIs(t, limited.Set(t.Context(), "big", value), middleware.ErrTooLarge)
	require.NoError(t, s.Delete(t.Context(), "big"))
	runtime.GC()
}
