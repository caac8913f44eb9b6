package audit_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// An audit of a server that refuses INFO answers, and says that it was not watched.
func TestRefusedInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	require.NoError(t, srv.Client(t).Set(t.Context(), "shop:1", "v", 0).Err())
	for _, refusals := range []map[string]string{
		{"info": "ERR command 'INFO' is blocked"},
		{"info": "ERR 42", "client": "ERR 43"},
		{"info all": "section (all) is not supported"},
	} {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), refusals)})
		t.Cleanup(func() { _ = rdb.Close() })
		r, err := audit.Run(t.Context(), rdb, audit.Config{Namespace: "shop"})
		require.NoError(t, err, refusals)
		require.True(t, r.Unwatched, refusals)
		require.EqualValues(t, 1, r.Total.Plaintext.Values)
		answer, _ := r.AnythingSealed()
		require.Equal(t, audit.Unknown, answer)
	}
}
