package names

import (
	"cmp"
	"slices"
	"strings"
)

// Other is the group of the names that are in no group.
const Other = "(other)"

// maxGroups bounds how many groups are counted separately, because an attacker can plant any names.
const maxGroups = 4096

// Groups holds the counts of groups of names.
type Groups[T any] map[string]*T

// Of returns the counts of a group. Groups beyond a bound share those of Other.
func (g *Groups[T]) Of(group string) *T {
	if *g == nil {
		*g = make(Groups[T])
	}
	if (*g)[group] == nil && len(*g) >= maxGroups {
		group = Other
	}
	if (*g)[group] == nil {
		(*g)[group] = new(T)
	}
	return (*g)[group]
}

// Largest returns the groups with the most values, the largest first. The rest are Other, the groups beyond a number of most
// groups, and those with fewer than few values, which may be whole names.
func (g Groups[T]) Largest(most int, few int64, values func(*T) int64) (largest, rest []string) {
	for group, counts := range g {
		if group == Other || values(counts) < few {
			rest = append(rest, group)
		} else {
			largest = append(largest, group)
		}
	}
	slices.SortFunc(largest, func(a, b string) int {
		return cmp.Or(cmp.Compare(values(g[b]), values(g[a])), strings.Compare(a, b))
	})
	most = min(most, len(largest))
	return largest[:most], append(rest, largest[most:]...)
}
