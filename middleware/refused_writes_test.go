package middleware_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
)

// gocache's Loadable drops the errors of Set. The log and a counter give the reason why a value is never cached.
func TestRefusedWritesAreReported(t *testing.T) {
	t.Parallel()
	var log sealtest.Logs
	reader := sdkmetric.NewManualReader()
	s := sealed(t, memory(t), keyring(t), middleware.WithMaxValueBytes(10), middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	loads := 0
	c := cache.NewLoadable(func(context.Context, any) (user, []store.Option, error) {
		loads++
		return user{Name: canary}, nil, nil
	}, cache.New[user](s))
	for range 5 {
		_, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	require.Positive(t, loads)
	sealtest.Eventually(t, func() bool { return strings.Contains(log.String(), "unsupported_type") })
	require.Contains(t, log.String(), "write failed")
	require.Contains(t, log.String(), "type=middleware_test.user")

	// Each cause has its own log lines, so that a frequent one does not hide another.
	for range 1000 {
		require.Error(t, s.Set(t.Context(), "k", make([]byte, 11)))
	}
	require.Error(t, s.Set(t.Context(), "k", "v", store.WithExpiration(-time.Second)))
	require.Contains(t, log.String(), "reason=expiration")
	require.Less(t, strings.Count(log.String(), "reason=too_large"), 30)
	require.NotContains(t, log.String(), canary)
	got := counts(t, reader, "sealcache.refused_writes", "sealcache.outcome")
	require.EqualValues(t, 1000, got["too_large"])
	require.EqualValues(t, 1, got["expiration"])
	require.Positive(t, got["unsupported_type"])

	// Without metrics the log has the same lines.
	var quiet bytes.Buffer
	s = sealed(t, memory(t), keyring(t), middleware.WithLogger(slog.New(slog.NewTextHandler(&quiet, nil))))
	require.Error(t, s.Set(t.Context(), "k", struct{}{}))
	require.Contains(t, quiet.String(), "reason=unsupported_type")
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Equal(t, 1, strings.Count(quiet.String(), "\n"))
}

// The errors of stores whose texts may quote data name the cause.
func TestCausesAreNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"malformed: key is too long or contains invalid characters":                                    "the key is too long or contains invalid characters",
		`memcache: unexpected response line from "set": "SERVER_ERROR object too large for cache\r\n"`: "the value is too large",
		"memcache: no servers configured or available":                                                 "no server is available",
		"size of key: secret, value: 70000, err: The entry size is larger than 1/1024 of cache size":   "the value is too large",
		"An error has occurred while setting value 'secret' on key 'secret'":                           "not shown",
		`memcache: unexpected line in get response: "VALUE secret"`:                                    "not shown",
	} {
		p := newPlain("memcache")
		p.err = textError(text)
		err := sealed(t, p, keyring(t)).Set(t.Context(), "k", "v")
		require.ErrorIs(t, err, p.err)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

type textError string

func (e textError) Error() string { return string(e) }
