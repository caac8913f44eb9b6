package fxmodule

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// However a store is written, it is the same one.
func TestPlacesOf(t *testing.T) {
	t.Parallel()
	meet := func(a, b string) bool {
		return slices.ContainsFunc(placesOf(a), func(p string) bool { return slices.Contains(placesOf(b), p) })
	}
	for _, same := range [][]string{
		{"", ""},
		{
			"redis://h", "redis://h:6379", "redis://h/", "redis://h:6379/0", "REDIS://H", "redis://h?db=0", "rediss://h", "redis://h.",
			"redis://user:pass@h/0?pool_size=3", "redis+cluster://other,h", "redis+cluster://other?addr=third,h",
		},
		{"redis://h/3", "redis://h:6379?db=3"},
		{"redis://", "redis://localhost", "redis://127.0.0.1:6379", "redis://[::1]", "redis://:pass@localhost/0"},
		{"redis://[fe80::1]:7000", "redis://[fe80:0::1]:7000"},
		{"unix:///run/redis", "redis+unix:///run%2Fredis?db=0"},
		{"redis+sentinel://a,b?master=m", "redis+sentinel://b:26379,c/0?master=m", "rediss+sentinel://?addr=a&master=m"},
		{"redis+cluster://a,b", "redis+cluster://b:6379,c"},
		{"not a URL", "not a URL"},
	} {
		for _, other := range same[1:] {
			require.True(t, meet(same[0], other), "%s and %s are one store", same[0], other)
		}
	}
	for _, apart := range [][2]string{
		{"memory://", "memory://"},
		{"", "redis://h"},
		{"redis://h", "redis://g"},
		{"redis://h", "redis://h:6380"},
		{"redis://h", "redis://h/1"},
		{"redis://h/1", "redis://h?db=2"},
		{"redis://h", "memory://"},
		{"unix:///a", "unix:///b"},
		{"unix:///a", "unix:///a?db=1"},
		{"redis+sentinel://a?master=m", "redis+sentinel://a?master=n"},
		{"redis+cluster://a,b", "redis+cluster://c"},
	} {
		require.False(t, meet(apart[0], apart[1]), "%s and %s are two stores", apart[0], apart[1])
	}
}
