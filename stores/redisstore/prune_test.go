package redisstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/stores/redisstore"
)

// A tag finds an entry without expiration after any time, because the set of the tag has no TTL either.
func TestEntryWithoutExpirationDoesNotOutliveItsTag(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx, tag := t.Context(), store.WithTags([]string{p + "t"})
		require.NoError(t, s.Set(ctx, p+"short", "v", tag, store.WithExpiration(10*time.Millisecond), store.WithTagsTTL(10*time.Millisecond)))
		require.NoError(t, s.Set(ctx, p+"k", "v", tag))
		require.Eventually(t, func() bool { return rdb.Exists(ctx, p+"short").Val() == 0 }, 2*time.Minute, time.Millisecond)
		require.EqualValues(t, -1, rdb.PTTL(ctx, "gocache_tag_"+p+"t").Val())
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "t"})))
		require.Zero(t, rdb.Exists(ctx, p+"k").Val())

		// An explicit TTL for tags is used.
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithTagsTTL(time.Hour)))
		require.InDelta(t, time.Hour, rdb.PTTL(ctx, "gocache_tag_"+p+"t").Val(), float64(time.Minute))
	})
}

func TestPruneTags(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		in := func(tag string) []string { return rdb.SMembers(ctx, "gocache_tag_"+p+tag).Val() }
		pipe := rdb.Pipeline()
		for i := range 2500 {
			pipe.SAdd(ctx, "gocache_tag_"+p+"in:many", fmt.Sprint(p, i))
			if i%1000 == 0 {
				pipe.Set(ctx, fmt.Sprint(p, i), "v", 0)
			}
		}
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
		for _, tag := range []string{"in:one", "out"} {
			require.NoError(t, s.Set(ctx, p+"k", "v", store.WithTags([]string{p + tag})))
		}
		require.NoError(t, s.Delete(ctx, p+"k"))
		require.NoError(t, s.PruneTags(ctx, p+"in:"))
		require.ElementsMatch(t, []string{p + "0", p + "1000", p + "2000"}, in("in:many"))
		require.Empty(t, in("in:one"))
		require.Len(t, in("out"), 1, "of another prefix")
		require.NoError(t, s.PruneTags(ctx, p+"in:"))
		require.Len(t, in("in:many"), 3)
	})
}

// Entries are written and deleted while their tag is pruned. At the end each existing entry has its tag.
func TestPruneTagsLosesNoMembership(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		const writers, keys = 4, 300
		ctx, tag := t.Context(), p+"tag"
		var writing, pruning sync.WaitGroup
		stop := make(chan struct{})
		errs := make(chan error, writers+1)
		pruning.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.PruneTags(ctx, tag); err != nil {
					errs <- err
					return
				}
			}
		})
		for w := range writers {
			writing.Go(func() {
				for i := range keys {
					key := fmt.Sprint(p, "k", w, "-", i%7)
					err := s.Delete(ctx, key)
					if err == nil {
						err = s.Set(ctx, key, "v", store.WithTags([]string{tag}))
					}
					if err != nil {
						errs <- err
						return
					}
				}
			})
		}
		writing.Wait()
		close(stop)
		pruning.Wait()
		select {
		case err := <-errs:
			require.NoError(t, err)
		default:
		}
		for key, err := range s.Keys(ctx, p+"k") {
			require.NoError(t, err)
			require.True(t, rdb.SIsMember(ctx, "gocache_tag_"+tag, key).Val(), "an entry lacks its tag")
		}
	})
}
