package names_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/names"
)

func TestLargestGroups(t *testing.T) {
	t.Parallel()
	var g names.Groups[int64]
	for group, n := range map[string]int64{"a:": 10, "b:": 30, "c:": 30, "d:": 9, "e:": 20, names.Other: 100} {
		*g.Of(group) += n
	}
	values := func(n *int64) int64 { return *n }
	largest, rest := g.Largest(3, 10, values)
	require.Equal(t, []string{"b:", "c:", "e:"}, largest)
	require.ElementsMatch(t, []string{"a:", "d:", names.Other}, rest)
	largest, rest = g.Largest(len(g), 0, values)
	require.Equal(t, []string{"b:", "c:", "e:", "a:", "d:"}, largest)
	require.Equal(t, []string{names.Other}, rest)
}

// Planted names take bounded memory, and lose no counts.
func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	const most, planted = 4096, 10_000
	var g names.Groups[int]
	*g.Of("a:")++
	for i := range planted {
		*g.Of(fmt.Sprint(i, ":"))++
	}
	*g.Of("a:")++
	require.Len(t, g, most+1)
	require.Equal(t, 2, *g.Of("a:"))
	require.Equal(t, planted-(most-1), *g.Of(names.Other))
}
