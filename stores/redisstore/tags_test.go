package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func TestInvalidateRemovesTheTaggedOnly(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		a, b := p+"a", p+"b"
		require.NoError(t, s.Set(ctx, p+"1", "v", store.WithTags([]string{a})))
		require.NoError(t, s.Set(ctx, p+"2", "v", store.WithTags([]string{a, b, a})))
		require.NoError(t, s.Set(ctx, p+"3", "v", store.WithTags([]string{b})))
		require.NoError(t, s.Set(ctx, p+"4", "v"))
		require.NoError(t, s.Invalidate(ctx))
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{a, p + "unknown"})))
		for name, want := range map[string]bool{"1": false, "2": false, "3": true, "4": true} {
			require.Equal(t, want, rdb.Exists(ctx, p+name).Val() == 1, name)
		}
		require.Zero(t, rdb.Exists(ctx, "gocache_tag_"+a).Val())
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{b})))
		require.Zero(t, rdb.Exists(ctx, p+"3").Val())
	})
}

func TestInvalidateManyMembers(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		const n = 5000 // several parts
		pipe := rdb.Pipeline()
		for i := range n {
			key := fmt.Sprint(p, "k", i)
			pipe.Set(ctx, key, "v", 0)
			pipe.SAdd(ctx, "gocache_tag_"+p+"tag", key)
		}
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "tag"})))
		for key, err := range s.Keys(ctx, p+"k") {
			require.NoError(t, err)
			require.Fail(t, "left behind", key)
		}
		require.Zero(t, rdb.Exists(ctx, "gocache_tag_"+p+"tag").Val())
	})
}

func TestTagsAreSharedWithGocache(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx, theirs := t.Context(), gocacheredis.NewRedis(rdb)
		require.NoError(t, theirs.Set(ctx, p+"theirs", "v", store.WithTags([]string{p + "tag"})))
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "tag"})))
		require.Zero(t, rdb.Exists(ctx, p+"theirs").Val())
		require.NoError(t, s.Set(ctx, p+"ours", "v", store.WithTags([]string{p + "tag"})))
		require.NoError(t, theirs.Invalidate(ctx, store.WithInvalidateTags([]string{p + "tag"})))
		require.Zero(t, rdb.Exists(ctx, p+"ours").Val())
	})
}

func TestTagSetsLiveAsLongAsTheirEntries(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		left := func() time.Duration { return rdb.PTTL(ctx, "gocache_tag_"+p+"tag").Val() }
		about := func(want time.Duration) {
			t.Helper()
			require.InDelta(t, want, left(), float64(40*time.Second))
		}
		tag := store.WithTags([]string{p + "tag"})
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithTagsTTL(time.Minute)))
		about(time.Minute)
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithTagsTTL(time.Minute), store.WithExpiration(time.Hour)))
		about(time.Hour) // equal to the entry's
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithTagsTTL(time.Minute)))
		about(time.Hour) // a tag's TTL is never shortened
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithExpiration(time.Minute)))
		about(720 * time.Hour)
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithExpiration(721*time.Hour)))
		about(721 * time.Hour)
		require.NoError(t, s.Set(ctx, p+"k", "v", tag))
		require.EqualValues(t, -1, left(), "as long as an entry that does not expire")
		require.NoError(t, s.Set(ctx, p+"k", "v", tag, store.WithExpiration(time.Minute)))
		require.EqualValues(t, -1, left(), "one that does not expire stays so")

		written, err := s.SetIfNotExists(ctx, p+"new", "v", store.WithTags([]string{p + "new"}))
		require.NoError(t, err)
		require.True(t, written)
		require.EqualValues(t, -1, rdb.PTTL(ctx, "gocache_tag_"+p+"new").Val())
	})
}

// Entries are set while their tag is invalidated. Whenever a Set has returned, an existing entry has its tag. gocache's
// store leaves two thirds of the entries of this test without their tag.
func TestNoEntryLosesItsTag(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		const writers, keys = 8, 500
		ctx, tag := t.Context(), p+"tag"
		var writing, invalidating sync.WaitGroup
		stop := make(chan struct{})
		errs := make(chan error, writers+2)
		for range 2 {
			invalidating.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := s.Invalidate(ctx, store.WithInvalidateTags([]string{tag})); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		for w := range writers {
			writing.Go(func() {
				for i := range keys {
					// Two writers share each key, so that a key is set while it is invalidated.
					if err := s.Set(ctx, fmt.Sprint(p, "k", w/2, "-", i), "v", store.WithTags([]string{tag})); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		writing.Wait()
		close(stop)
		invalidating.Wait()
		select {
		case err := <-errs:
			require.NoError(t, err)
		default:
		}
		for key, err := range s.Keys(ctx, p+"k") {
			require.NoError(t, err)
			require.True(t, rdb.SIsMember(ctx, "gocache_tag_"+tag, key).Val(), "an entry lacks its tag")
		}
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{tag})))
		for _, err := range s.Keys(ctx, p+"k") {
			require.NoError(t, err)
			require.Fail(t, "an entry outlived the invalidation of its tag")
		}
	})
}

// On a single node an entry never exists without its tags: a tag that cannot be written fails the Set.
func TestTagsThatCannotBeWrittenAreErrors(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		require.NoError(t, rdb.Set(ctx, "gocache_tag_"+p+"taken", "a string", 0).Err())
		err := s.Set(ctx, p+"k", "v", store.WithTags([]string{p + "good", p + "taken"}))
		require.ErrorContains(t, err, "WRONGTYPE, the Redis key of the entry or of a tag has another type")
		require.NotContains(t, err.Error(), p)
		require.Zero(t, rdb.Exists(ctx, p+"k").Val())

		require.NoError(t, s.Set(ctx, p+"k", "v", store.WithTags([]string{p + "good"})))
		err = s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "taken", p + "good"}))
		require.ErrorContains(t, err, "WRONGTYPE")
		require.NotContains(t, err.Error(), p)
		require.Zero(t, rdb.Exists(ctx, p+"k").Val(), "the other tag is invalidated all the same")
	})
}

// dropRemoval fails the second removal of entries, like a node that stops in the middle of Invalidate.
type dropRemoval struct{ after int }

func (d *dropRemoval) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (d *dropRemoval) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d *dropRemoval) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if args := cmds[0].Args(); args[0] == "evalsha" && len(args) == 4 { // the script with one key and no argument removes it
			if d.after--; d.after < 0 {
				for _, c := range cmds {
					c.SetErr(context.DeadlineExceeded)
				}
				return context.DeadlineExceeded
			}
		}
		return next(ctx, cmds)
	}
}

func TestFailedInvalidateCanBeRepeated(t *testing.T) {
	t.Parallel()
	for fails := range 2 {
		rdb := redis.NewClusterClient(shared.Cluster.ClientOptions())
		defer func() { require.NoError(t, rdb.Close()) }()
		s, ctx, p := newStore(t, rdb), t.Context(), fmt.Sprint(t.Name(), fails, ":")
		require.NoError(t, s.Set(ctx, p+"k", "v", store.WithTags([]string{p + "tag"})))
		hook := &dropRemoval{after: fails}
		rdb.AddHook(hook)
		tag := store.WithInvalidateTags([]string{p + "tag"})
		require.ErrorIs(t, s.Invalidate(ctx, tag), context.DeadlineExceeded)
		require.True(t, rdb.SIsMember(ctx, "gocache_tag_"+p+"tag", p+"k").Val(), "it is still in the tag")
		hook.after = 2
		require.NoError(t, s.Invalidate(ctx, tag))
		require.Zero(t, rdb.Exists(ctx, p+"k").Val())
	}
}

// Setting tags takes one round trip on a single node: no other command can come between entry and tag.
func TestSetAndTagAreOneScript(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	s, ctx := newStore(t, srv.Client(t)), t.Context()
	set := func() { require.NoError(t, s.Set(ctx, "k", "v", store.WithTags([]string{"a", "b"}))) }
	set() // the server knows the script from here on
	m := srv.Monitor(t)
	set()
	var calls []string
	for line := range strings.Lines(string(m.Bytes(t))) {
		if _, call, ok := strings.Cut(line, "] "); ok && !strings.Contains(line, "lua]") && !strings.HasPrefix(call, `"echo"`) &&
			!strings.HasPrefix(call, `"hello"`) {
			calls = append(calls, call)
		}
	}
	require.Len(t, calls, 1)
	require.True(t, strings.HasPrefix(calls[0], `"evalsha"`), calls[0])
}

// afterSet runs a function after an entry was written, and may drop the reply.
type afterSet struct {
	do   func()
	loss error
}

func (a afterSet) DialHook(next redis.DialHook) redis.DialHook { return next }
func (a afterSet) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a afterSet) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "set" && err == nil {
			a.do()
			if err = a.loss; err != nil {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// In a Cluster, a context may end after the entry was written while its tag is being invalidated. The entry still gets
// its tag.
func TestContextThatEndsAfterTheEntryWasWrittenLosesNoTag(t *testing.T) {
	t.Parallel()
	direct := shared.Cluster.Client(t)
	for name, loss := range map[string]error{"reply received": nil, "reply lost": context.Canceled} {
		for _, absent := range []bool{false, true} {
			if absent && loss != nil {
				continue // the owner of the entry is unknown then
			}
			p := fmt.Sprint(t.Name(), name, absent, ":")
			ctx, cancel := context.WithCancel(t.Context())
			rdb := redis.NewClusterClient(shared.Cluster.ClientOptions())
			rdb.AddHook(afterSet{loss: loss, do: func() {
				direct.SRem(t.Context(), "gocache_tag_"+p+"t", p+"k")
				cancel()
			}})
			s, tag := newStore(t, rdb), store.WithTags([]string{p + "t"})
			var err error
			if absent {
				var written bool
				written, err = s.SetIfNotExists(ctx, p+"k", "v", tag)
				require.True(t, written, name)
			} else {
				err = s.Set(ctx, p+"k", "v", tag)
			}
			require.ErrorIs(t, err, loss, name)
			require.EqualValues(t, 1, direct.Exists(t.Context(), p+"k").Val(), name)
			require.True(t, direct.SIsMember(t.Context(), "gocache_tag_"+p+"t", p+"k").Val(), "%s: an entry without its tag", name)
			require.NoError(t, rdb.Close())
			cancel()
		}
	}
}
