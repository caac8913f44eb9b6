package middleware_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
)

// After every operation with all options, the traffic and files of Redis contain no value, key or tag. Logs, metrics and errors
// contain none either.
func TestRedisSeesNoName(t *testing.T) {
	t.Parallel()
	p, server := newPlanter(), talkative(t)
	monitor := server.Monitor(t)
	ctx, set := within(t, patience), newPRFKeys(t, 2)
	for name, hide := range map[string]middleware.Option{"hidden": middleware.WithHiddenKeys(set.set(t, 1)), "one-way": middleware.WithOneWayKeys(set.set(t, 1))} {
		s := sealed(t, overRedis(t, server), envelope(t, aead.WithLogger(p.Logger)), append(p.options(), hide, middleware.WithNamespace(name),
			middleware.WithAuthenticatedExpiry(), middleware.WithPadding(), middleware.WithCompression(0), middleware.WithMaxValueBytes(20_000),
			middleware.WithDefaults(store.WithExpiration(time.Hour)))...)
		require.NoError(t, p.err(s.Check(ctx)))
		tag := p.key("tag")
		items := map[string]any{}
		for i := range 20 {
			items[p.key(fmt.Sprint(name, i))] = p.text(fmt.Sprint(name, "value", i))
		}
		require.NoError(t, p.err(s.SetMany(ctx, items, store.WithTags([]string{tag}))))
		var keys []string
		for key, value := range items {
			keys = append(keys, key)
			require.NoError(t, p.err(s.Set(ctx, key, value, store.WithTags([]string{tag, p.key("tag")}))))
			written, err := s.SetIfNotExists(ctx, key, "other")
			require.NoError(t, p.err(err))
			require.False(t, written)
			require.NoError(t, p.err(s.Touch(ctx, key, 2*time.Hour)))
			require.NoError(t, p.err(s.Update(ctx, key, func(old any, found bool) (any, error) {
				require.True(t, found)
				return old, nil
			})))
			got, ttl, err := s.GetWithTTL(ctx, key)
			require.NoError(t, p.err(err))
			require.Equal(t, value, got)
			require.Greater(t, ttl, time.Hour)
		}
		got, err := s.GetMany(ctx, keys)
		require.NoError(t, p.err(err))
		require.Equal(t, items, got)
		listed := 0
		for _, err := range s.Keys(ctx) {
			if p.err(err) == nil {
				listed++
			}
		}
		require.Equal(t, map[string]int{"hidden": 20, "one-way": 0}[name], listed)
		counter := p.key("counter")
		_, err = s.Increment(ctx, counter, p.number(name+"counter"))
		require.NoError(t, p.err(err))
		_, err = s.Increment(ctx, keys[0], 1)
		require.ErrorIs(t, p.err(err), middleware.ErrNotANumber)
		_, err = s.GetAndDelete(ctx, counter)
		require.NoError(t, p.err(err))

		// Operations fail whose error could show a name.
		admin := server.Client(t)
		var stored string
		for _, n := range admin.Keys(ctx, name+":*").Val() {
			if !strings.HasSuffix(n, "key-check") {
				stored = n
			}
		}
		b, err := admin.Get(ctx, stored).Bytes()
		require.NoError(t, err)
		b[len(b)-1] ^= 1
		require.NoError(t, admin.Set(ctx, stored, b, 0).Err())
		got, err = s.GetMany(ctx, keys)
		require.ErrorIs(t, p.err(err), middleware.ErrUnauthentic)
		require.Len(t, got, 19)
		for _, err := range s.Keys(ctx) {
			_ = p.err(err)
		}
		for _, key := range keys {
			_, err := s.Get(ctx, key)
			_ = p.err(err)
		}
		long := strings.Repeat(p.key("long")+" ", 400)
		require.ErrorIs(t, p.err(s.Set(ctx, long, "v")), middleware.ErrTooLarge)
		require.ErrorIs(t, p.err(s.Set(ctx, "k", "v", store.WithTags([]string{long, long}))), middleware.ErrTooLarge)
		require.ErrorIs(t, p.err(s.SetMany(ctx, map[string]any{long: "v"})), middleware.ErrTooLarge)
		require.NoError(t, p.err(s.DeleteMany(ctx, keys[:3])))
		require.NoError(t, p.err(s.Invalidate(ctx, store.WithInvalidateTags([]string{tag}))))
		got, err = s.GetMany(ctx, keys)
		require.NoError(t, p.err(err))
		require.Empty(t, got)
		require.NoError(t, p.err(s.Set(ctx, keys[0], "v")))
		require.NoError(t, p.err(s.Clear(ctx)))
	}
	for name, b := range media(t, server, monitor) {
		require.Empty(t, p.all.Find(b), "in plaintext in %s", name)
	}
	p.requireNoSecrets(t)
}
