package stores_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/stores"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenByScheme(t *testing.T) {
	t.Parallel()
	single, tls := redistest.Start(t), redistest.StartWith(t, redistest.Options{TLS: true})
	for name, url := range map[string]string{
		"memory":         "memory://?max_bytes=1MiB",
		"redis":          single.URL(),
		"REDIS":          strings.Replace(single.URL(), "redis", "REDIS", 1),
		"redis+unix":     "redis+unix://" + single.Socket() + "?db=1",
		"unix":           "unix://" + single.Socket() + "?db=2",
		"rediss":         tls.URL(),
		"redis+sentinel": redistest.StartSentinel(t).URL(),
		"redis+cluster":  redistest.StartCluster(t).URL(),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := stores.Open(t.Context(), url)
			require.NoError(t, err)
			c := cache.New[[]byte](s)
			require.NoError(t, c.Set(t.Context(), "k", []byte("v"), store.WithTags([]string{"t"})))
			b, err := c.Get(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "v", string(b))
			require.NoError(t, c.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
			_, err = c.Get(t.Context(), "k")
			require.ErrorIs(t, err, &store.NotFound{})
			require.NoError(t, s.Close())
		})
	}
}

// The value of a panic in the cause of a context is not shown.
func TestOpenAfterACauseThatPanics(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(sealtest.PanickingError{Cause: io.EOF})
	for _, url := range []string{"memory://", "redis://localhost"} {
		_, err := stores.Open(ctx, url)
		require.ErrorIs(t, err, io.EOF)
		require.NotContains(t, err.Error(), sealtest.PanicSecret)
	}
	_, err := redisstore.Open(ctx, "redis://localhost")
	require.ErrorIs(t, err, io.EOF)
	require.NotContains(t, err.Error(), sealtest.PanicSecret)
}

// Every documented scheme reaches a driver.
func TestOpenKnowsTheSchemesThatItNames(t *testing.T) {
	t.Parallel()
	_, err := stores.Open(t.Context(), "nosuch://")
	require.ErrorContains(t, err, "unknown scheme \"nosuch\"")
	_, list, _ := strings.Cut(strings.TrimSuffix(err.Error(), ")"), "(allowed: ")
	names := strings.Split(list, ", ")
	require.Len(t, names, 9)
	for _, scheme := range names {
		_, err := stores.Open(t.Context(), scheme+"://?no_such_option=1")
		require.Error(t, err)
		require.NotContains(t, err.Error(), "unknown scheme", scheme)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                            "the URL is empty",
		"localhost:6379":              "is not a URL such as redis://localhost:6379/0",
		"http://user:hunter2@h":       "unknown scheme \"http\" (allowed: memory, redis",
		"redis://u:hunter2@h?x_y=1":   "unknown option \"x_y\" in the URL",
		"redis://u:hunter2/@h":        "percent-encode",
		"redis://u:hun%ter2@h":        "percent-encoded",
		"memory://?no_such_option=1":  "no_such_option",
		"memory://u:hunter2@h":        "memory://",
		"u:hunter2@h://x":             "unknown scheme (not shown) (allowed:",
		"redis+cluster://u:hunter2@":  "the URL has no host",
		"redis://u:hunter2@h:hunter2": "port",
	} {
		s, err := stores.Open(t.Context(), url)
		require.ErrorContains(t, err, want, url)
		require.Nil(t, s, "%s: a Store that holds a nil pointer is not nil", url)
		require.NotContains(t, err.Error(), "hunter2")
		require.True(t, strings.HasPrefix(err.Error(), "stores: "))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	_, err := stores.Open(ctx, "memory://")
	require.ErrorIs(t, err, cause)
}

func FuzzOpen(f *testing.F) {
	for _, s := range []string{"", "://", "memory://", "redis://h", "u:", "redis+sentinel://"} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "Hunter2-pass"
		if strings.Contains(before+after, "_file") || strings.Contains(before+after, "min_idle") {
			return // these options read files or connect
		}
		s, err := stores.Open(t.Context(), before+secret+after)
		if err != nil {
			if s != nil || strings.Contains(err.Error(), secret) {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
