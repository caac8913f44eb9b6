package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// counterparts are the stores that a row of counterparts.md is checked with.
type counterparts struct {
	cache  *cache.Cache[string]
	sealed *middleware.Store
}

func (c counterparts) set(t *testing.T, key, value string, opts ...store.Option) {
	t.Helper()
	require.NoError(t, c.cache.Set(t.Context(), key, value, opts...))
}

func (c counterparts) holds(t *testing.T, key, want string) {
	t.Helper()
	got, err := c.cache.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func (c counterparts) lacks(t *testing.T, keys ...string) {
	t.Helper()
	for _, key := range keys {
		_, err := c.cache.Get(t.Context(), key)
		require.ErrorIs(t, err, store.NotFound{})
	}
}

func (c counterparts) left(t *testing.T, key string) time.Duration {
	t.Helper()
	_, left, err := c.cache.GetWithTTL(t.Context(), key)
	require.NoError(t, err)
	return left
}

// rowChecks does what each row of the table says. Its keys are the first column.
func rowChecks() map[string]func(t *testing.T, c counterparts) {
	checks := map[string]func(t *testing.T, c counterparts){
		"`get(key)`": func(t *testing.T, c counterparts) { c.lacks(t, "k"); c.set(t, "k", "v"); c.holds(t, "k", "v") },
		"`set(key, value, timeout)`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v", store.WithExpiration(time.Hour))
			require.Greater(t, c.left(t, "k"), 59*time.Minute)
			c.set(t, "k", "v", store.WithExpiration(0))
			require.Zero(t, c.left(t, "k"))
		},
		"`set(..., nx=True)`, `add`": func(t *testing.T, c counterparts) {
			for i, want := range []bool{true, false} {
				written, err := c.sealed.SetIfNotExists(t.Context(), "k", fmt.Sprint(i), store.WithExpiration(time.Hour))
				require.NoError(t, err)
				require.Equal(t, want, written)
			}
			c.holds(t, "k", "0")
		},
		"`set(..., xx=True)`": func(t *testing.T, c counterparts) {
			absent := errors.New("absent")
			replace := func(_ any, found bool) (any, error) {
				if !found {
					return nil, absent
				}
				return "new", nil
			}
			require.ErrorIs(t, c.sealed.Update(t.Context(), "k", replace), absent)
			c.lacks(t, "k")
			c.set(t, "k", "v", store.WithExpiration(time.Hour))
			require.NoError(t, c.sealed.Update(t.Context(), "k", replace))
			c.holds(t, "k", "new")
			require.Greater(t, c.left(t, "k"), 59*time.Minute)
		},
		"`get_many`": func(t *testing.T, c counterparts) {
			c.set(t, "a", "1")
			got, err := c.sealed.GetMany(t.Context(), []string{"a", "absent"})
			require.NoError(t, err)
			require.Equal(t, map[string]any{"a": "1"}, got)
		},
		"`set_many`": func(t *testing.T, c counterparts) {
			require.NoError(t, c.sealed.SetMany(t.Context(), map[string]any{"a": "1", "b": "2"}, store.WithExpiration(time.Hour)))
			c.holds(t, "b", "2")
			require.Greater(t, c.left(t, "b"), 59*time.Minute)
			var failed *middleware.BatchError
			err := c.sealed.SetMany(t.Context(), map[string]any{"a": "3", "bad": struct{}{}})
			require.ErrorAs(t, err, &failed)
			require.Len(t, failed.Errors, 1)
			c.holds(t, "a", "3")
		},
		"`delete_many`": func(t *testing.T, c counterparts) {
			c.set(t, "a", "1")
			require.NoError(t, c.sealed.DeleteMany(t.Context(), []string{"a", "absent"}))
			c.lacks(t, "a")
		},
		"`delete_pattern`": func(t *testing.T, c counterparts) {
			c.set(t, "a", "1", store.WithTags([]string{"tag"}))
			c.set(t, "b", "2")
			require.NoError(t, c.cache.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
			c.lacks(t, "a")
			c.holds(t, "b", "2")
			c.set(t, "b:1", "3")
			var matched []string
			for key, err := range c.sealed.Keys(t.Context()) {
				require.NoError(t, err)
				if strings.HasPrefix(key, "b:") {
					matched = append(matched, key)
				}
			}
			require.NoError(t, c.sealed.DeleteMany(t.Context(), matched))
			c.lacks(t, "b:1")
			c.holds(t, "b", "2")
		},
		"`iter_keys`, `keys`": func(t *testing.T, c counterparts) {
			c.set(t, "a", "1")
			c.set(t, "b", "2")
			var keys []string
			for key, err := range c.sealed.Keys(t.Context()) {
				require.NoError(t, err)
				keys = append(keys, key)
			}
			require.ElementsMatch(t, []string{"a", "b"}, keys)
		},
		"`incr`, `decr`": func(t *testing.T, c counterparts) {
			for i, want := range []int64{5, 2} {
				n, err := c.sealed.Increment(t.Context(), "k", int64(5-8*i))
				require.NoError(t, err)
				require.Equal(t, want, n)
			}
		},
		"`has_key`": func(t *testing.T, c counterparts) {
			_, err := c.cache.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.NotFound{})
		},
	}
	for row, check := range moreRowChecks() {
		checks[row] = check
	}
	return checks
}

func moreRowChecks() map[string]func(t *testing.T, c counterparts) {
	return map[string]func(t *testing.T, c counterparts){
		"`ttl`, `pttl`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v", store.WithExpiration(1234567*time.Millisecond))
			left := c.left(t, "k")
			require.Greater(t, left, 1100*time.Second)
			require.LessOrEqual(t, left, 1234567*time.Millisecond)
			c.set(t, "k", "v", store.WithExpiration(0))
			require.Zero(t, c.left(t, "k"))
		},
		"`persist`": func(t *testing.T, c counterparts) {
			require.ErrorIs(t, c.sealed.Touch(t.Context(), "k", 0), store.NotFound{})
			c.set(t, "k", "v", store.WithExpiration(time.Hour))
			require.NoError(t, c.sealed.Touch(t.Context(), "k", 0))
			require.Zero(t, c.left(t, "k"))
		},
		"`expire`, `pexpire`, `touch`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v")
			require.NoError(t, c.sealed.Touch(t.Context(), "k", time.Hour))
			require.Greater(t, c.left(t, "k"), 59*time.Minute)
			c.holds(t, "k", "v")
		},
		"`expire_at`, `pexpire_at`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v")
			require.NoError(t, c.sealed.Touch(t.Context(), "k", time.Until(time.Now().Add(time.Hour))))
			require.Greater(t, c.left(t, "k"), 59*time.Minute)
			require.Error(t, c.sealed.Touch(t.Context(), "k", time.Until(time.Now().Add(-time.Hour))))
			c.holds(t, "k", "v")
		},
		"`get_or_set`": func(t *testing.T, c counterparts) {
			loads := 0
			loading := cache.NewLoadable[string](func(context.Context, any) (string, []store.Option, error) {
				loads++
				return "loaded", nil, nil
			}, c.cache)
			got, err := loading.Get(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "loaded", got)
			require.NoError(t, loading.Close()) // waits for the write
			c.holds(t, "k", "loaded")
			require.Equal(t, 1, loads)
		},
		"`lock`": func(t *testing.T, c counterparts) {}, // another library: see below the table
		"`clear`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v")
			require.NoError(t, c.cache.Clear(t.Context()))
			c.lacks(t, "k")
		},
		"`delete`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v")
			for range 2 {
				require.NoError(t, c.cache.Delete(t.Context(), "k"))
			}
			c.lacks(t, "k")
		},
		"pop: `get`, then `delete`": func(t *testing.T, c counterparts) {
			c.set(t, "k", "v")
			got, err := c.sealed.GetAndDelete(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "v", got)
			_, err = c.sealed.GetAndDelete(t.Context(), "k")
			require.ErrorIs(t, err, store.NotFound{})
		},
		"`get_client()`": func(t *testing.T, c counterparts) {}, // the application has it
	}
}

var tableRow = regexp.MustCompile(`(?m)^\| (.+?) \| .+ \|$`)

// Each row of counterparts.md is true over each store.
func TestCounterparts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("counterparts.md")
	require.NoError(t, err)
	checks := rowChecks()
	var rows []string
	for _, match := range tableRow.FindAllStringSubmatch(string(text), -1) {
		if match[1] != "django-redis" {
			rows = append(rows, match[1])
			require.Contains(t, checks, match[1], "a row without a check")
		}
	}
	require.Len(t, rows, len(checks), "checks without a row")
	slices.Sort(rows)

	single, cluster := redistest.Start(t), redistest.StartCluster(t)
	onRedis := func(client redis.UniversalClient) store.StoreInterface {
		s, err := redisstore.New(client)
		require.NoError(t, err)
		return s
	}
	memory, err := stores.Open(t.Context(), "memory://")
	require.NoError(t, err)
	for name, backing := range map[string]store.StoreInterface{
		"memory": memory, "redis": onRedis(single.Client(t)), "cluster": onRedis(cluster.Client(t)),
	} {
		for i, row := range rows {
			namespace := middleware.WithNamespace(fmt.Sprint("row", i))
			sealed, err := middleware.New(backing, sealtest.Envelope(t), namespace)
			require.NoError(t, err)
			t.Run(name+" "+row, func(t *testing.T) { checks[row](t, counterparts{cache.New[string](sealed), sealed}) })
		}
	}
}
