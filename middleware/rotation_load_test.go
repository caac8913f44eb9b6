package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

const (
	crowd  = 10_000 // goroutines on one store at the same time
	places = 64     // keys that they share

	pipelinePool = 10 // connections that go-redis keeps for pipelines, in addition to its pool
)

// Not parallel: ten thousand goroutines would disturb the clocks of other tests.
func TestCrowdWhileKeysRotate(t *testing.T) { //nolint:paralleltest // see above
	bounded := []string{"pool_size=32", "pool_timeout=5m", "read_timeout=1m", "write_timeout=1m"}
	t.Run("envelope over redisstore", func(t *testing.T) { //nolint:paralleltest // see above
		file := newKeysetFile(t)
		keys := file.open(t)
		e, err := aead.NewEnvelope(t.Context(), keys)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		server := redistest.Start(t)
		backing := overRedis(t, server, bounded...)
		crowdWhileKeysRotate(t, backing, e, file, keys, 2)
		require.LessOrEqual(t, e.Stats().Wraps, uint64(2), "one data key before the rotation, one after")
		clients, err := server.Client(t).ClientList(t.Context()).Result()
		require.NoError(t, err)
		require.LessOrEqual(t, countLines(clients), 32+pipelinePool+1, "the pools are bounded")
	})
	t.Run("keyring over gocache's Redis store", func(t *testing.T) { //nolint:paralleltest // see above
		file := newKeysetFile(t)
		keys := file.open(t)
		opts := redistest.Start(t).ClientOptions()
		opts.PoolSize, opts.PoolTimeout, opts.ReadTimeout, opts.WriteTimeout = 32, 5*time.Minute, time.Minute, time.Minute
		rdb := redis.NewClient(opts)
		t.Cleanup(func() { _ = rdb.Close() })
		crowdWhileKeysRotate(t, gocacheredis.NewRedis(rdb), keys, file, keys, 1)
	})
	t.Run("keyring over memorystore", func(t *testing.T) { //nolint:paralleltest // see above
		file := newKeysetFile(t)
		keys := file.open(t)
		crowdWhileKeysRotate(t, memory(t), keys, file, keys, 2)
	})
}

// crowdWhileKeysRotate makes each goroutine run a number of operations before the rotation, and as many during or after
// it.
func crowdWhileKeysRotate(t *testing.T, backing store.StoreInterface, a tink.AEADWithContext, file *keysetFile, keys *aead.Keyring, rounds int) {
	t.Helper()
	ctx := within(t, 5*patience)
	s := sealed(t, backing, a, middleware.WithNamespace("crowd"))
	before := keys.Keys()[0].ID
	for i := range places {
		require.NoError(t, s.Set(ctx, place("old", i), word("old", i)))
	}

	var (
		failures atomic.Int64
		first    sync.Once
		firstErr error
		rotated  = make(chan struct{})
		half     sync.WaitGroup // all have worked before the rotation begins
		all      sync.WaitGroup
	)
	fail := func(err error) {
		failures.Add(1)
		first.Do(func() { firstErr = err })
	}
	half.Add(crowd)
	for g := range crowd {
		all.Go(func() {
			for round := range rounds {
				if err := anyOperation(ctx, s, g, round); err != nil {
					fail(err)
				}
			}
			half.Done()
			// Some goroutines continue while the keyset changes, and some wait until it has changed.
			if g%2 == 0 {
				<-rotated
			}
			for round := range rounds {
				if err := anyOperation(ctx, s, g, rounds+round); err != nil {
					fail(err)
				}
			}
			if g%2 == 0 {
				if err := s.Set(ctx, place("new", g/2), word("new", g/2)); err != nil {
					fail(err)
				}
			}
		})
	}
	half.Wait()
	after := file.rotate(t)
	require.NotEqual(t, before, after)
	require.NoError(t, keys.Reload(ctx))
	close(rotated)
	all.Wait()
	require.NoError(t, firstErr)
	require.Zero(t, failures.Load(), "failed operations")

	for i := range places {
		require.Equal(t, before, sealedUnder(t, backing, "crowd:"+place("old", i)), "an old value stays as it is")
		got, err := s.Get(ctx, place("old", i))
		require.NoError(t, err)
		require.Equal(t, word("old", i), got)
		require.Equal(t, after, sealedUnder(t, backing, "crowd:"+place("new", i)), "a value written after Reload has returned")
	}
}

func place(kind string, i int) string { return fmt.Sprintf("%s/%d", kind, i%places) }
func word(kind string, i int) string {
	return fmt.Sprintf("the value of %s %d%s", kind, i%places, strings.Repeat(" again", i%8*100))
}

// anyOperation calls one operation of a store, and checks the part of its result that does not depend on the other
// goroutines.
func anyOperation(ctx context.Context, s *middleware.Store, g, round int) error {
	shared, own := place("shared", g), fmt.Sprintf("own/%d/%d", g, round)
	expect := func(key, want string, missing bool) error {
		got, err := s.Get(ctx, key)
		switch {
		case missing && errors.Is(err, store.NotFound{}):
			return nil
		case err != nil:
			return fmt.Errorf("get: %w", err)
		case got != want:
			return fmt.Errorf("get: another value than was set: %v", got)
		}
		return nil
	}
	switch (g/2 + round) % 6 {
	case 0:
		return s.Set(ctx, shared, word("shared", g), store.WithTags([]string{place("tag", g)}))
	case 1:
		return expect(shared, word("shared", g), true)
	case 2:
		if rand.N(4) == 0 {
			return s.Delete(ctx, shared)
		}
		return expect(place("old", g), word("old", g), false)
	case 3:
		written, err := s.SetIfNotExists(ctx, own, word("shared", g))
		if err == nil && !written {
			err = errors.New("set if not exists: found an entry that no goroutine wrote")
		}
		if err != nil {
			return err
		}
		return expect(own, word("shared", g), false)
	case 4:
		if rand.N(16) == 0 {
			return s.Invalidate(ctx, store.WithInvalidateTags([]string{place("tag", g)}))
		}
		_, _, err := s.GetWithTTL(ctx, place("old", g))
		return err
	default:
		_, err := s.SetIfNotExists(ctx, shared, word("shared", g))
		return err
	}
}
