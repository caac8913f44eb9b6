package middleware_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
)

var rows = strings.Repeat(`{"id":4711,"name":"Ada Lovelace","city":"London"},`, 40)

func TestCompression(t *testing.T) {
	t.Parallel()
	a, ctx := keyring(t), t.Context()
	random := make([]byte, 4096)
	rand.Read(random)
	for name, option := range map[string]middleware.Option{"zstd": middleware.WithCompression(0), "s2": middleware.WithFastCompression(512)} {
		m := memory(t)
		s := sealed(t, m, a, option)
		reader := sealed(t, m, a) // needs no option
		for key, c := range map[string]struct {
			value      any
			compressed bool
		}{
			"text":        {rows, true},
			"bytes":       {[]byte(rows), true},
			"short":       {rows[:511], false},
			"least":       {rows[:512], true},
			"random":      {random, false},
			"number":      {int64(7), false},
			"empty":       {"", false},
			"large":       {strings.Repeat(rows, 1000), true},
			"zero bytes":  {make([]byte, 1<<20), true},
			"just a bool": {true, false},
		} {
			require.NoError(t, s.Set(ctx, key, c.value))
			info, err := middleware.Inspect(raw(t, m, key))
			require.NoError(t, err)
			require.Equal(t, c.compressed, info.Compressed, "%s %s", name, key)
			got, err := reader.Get(ctx, key)
			require.NoError(t, err)
			require.Equal(t, c.value, got)
		}
		require.Less(t, len(raw(t, m, "text")), len(rows)/4)

		// The bound holds for what a few bytes expand to.
		small := sealed(t, m, a, middleware.WithMaxValueBytes(1<<20-1))
		_, err := small.Get(ctx, "zero bytes")
		require.ErrorIs(t, err, middleware.ErrTooLarge)
	}
	for _, opts := range [][]middleware.Option{
		{middleware.WithCompression(511)}, {middleware.WithCompression(-1)}, {middleware.WithFastCompression(1)},
		{middleware.WithCompression(0), middleware.WithFastCompression(0)},
	} {
		_, err := middleware.New(memory(t), a, opts...)
		require.Error(t, err)
	}
}

func TestPadding(t *testing.T) {
	t.Parallel()
	a, ctx, m := keyring(t), t.Context(), memory(t)
	s, reader := sealed(t, m, a, middleware.WithPadding()), sealed(t, m, a)
	lengths := map[int]bool{}
	for n := range 3000 {
		value := bytes.Repeat([]byte{0x80, 0}, n/2+1)[:n] // reads like padding
		require.NoError(t, s.Set(ctx, "k", value))
		stored := raw(t, m, "k")
		got, err := reader.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, value, got, n)
		length := len(stored) - 39
		require.Greater(t, length, n)
		require.LessOrEqual(t, float64(length), 1.12*float64(n+1)+0.5, n)
		if n >= 1024 && n < 2047 {
			lengths[length] = true
		}
	}
	require.Len(t, lengths, 16)
	info, err := middleware.Inspect(raw(t, m, "k"))
	require.NoError(t, err)
	require.True(t, info.Padded)
}

// All options together, with every type.
func TestEveryOptionTogether(t *testing.T) {
	t.Parallel()
	a, ctx, set := envelope(t), t.Context(), prfSet(t)
	for name, hide := range map[string]middleware.Option{"hidden": middleware.WithHiddenKeys(set), "one way": middleware.WithOneWayKeys(set)} {
		m := memory(t)
		all := []middleware.Option{
			middleware.WithNamespace("ns"), middleware.WithAuthenticatedExpiry(), middleware.WithPadding(), middleware.WithCompression(0),
			hide, middleware.WithCodec(middleware.JSON[user]()), middleware.WithDefaults(store.WithExpiration(time.Hour)),
		}
		s := sealed(t, m, a, all...)
		values := map[string]any{"json": user{Name: rows}}
		for k, v := range predeclared {
			values[k] = v
		}
		for k, v := range values {
			require.NoError(t, s.Set(ctx, k, v, store.WithTags([]string{"t1", "t2"})), k)
			got, err := s.Get(ctx, k)
			require.NoError(t, err, k)
			require.Equal(t, v, got, k)
		}
		require.NoError(t, s.SetMany(ctx, values))
		got, err := s.GetMany(ctx, []string{"json", "string"})
		require.NoError(t, err)
		require.Equal(t, map[string]any{"json": values["json"], "string": values["string"]}, got)
		for _, n := range names(t, m) {
			info, err := middleware.Inspect(raw(t, m, n))
			require.NoError(t, err)
			require.True(t, info.Expires && info.Padded && info.Hidden, n)
			require.Equal(t, name == "hidden", info.Named, fmt.Sprint(name))
		}
	}
}

// Without hidden names, tags of any length go to the backing store, and only short ones are sealed with the value.
func TestLongTagsAreNotSealed(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t))
	for tag, tagged := range map[string]bool{"t": true, strings.Repeat("t", 17<<10): false} {
		require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{tag})))
		info, err := middleware.Inspect(raw(t, m, "k"))
		require.NoError(t, err)
		require.Equal(t, tagged, info.Tagged)
		require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{tag})))
		_, err = s.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{})
	}
}
