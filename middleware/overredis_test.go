package middleware_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// patience bounds the time that a store may take on a busy machine to work again after an outage.
const patience = time.Minute

// overURL returns a separate redisstore over a server's address, with options as in a URL.
func overURL(t testing.TB, rawURL string, options ...string) *redisstore.Store {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	q := u.Query()
	q.Set("read_timeout", patience.String()) // a command that times out may be sent again
	q.Set("write_timeout", patience.String())
	for _, o := range options {
		k, v, ok := strings.Cut(o, "=")
		require.True(t, ok, o)
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	s, err := redisstore.Open(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func overRedis(t testing.TB, s *redistest.Server, options ...string) *redisstore.Store {
	t.Helper()
	return overURL(t, s.URL(), options...)
}

// within returns a context that bounds a call of a test, so that a hang is a failure.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually calls f until it returns nil.
func eventually(t testing.TB, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			require.NoError(t, err, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
