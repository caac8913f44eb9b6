package audit

import (
	"slices"
	"strings"

	"github.com/sealcache/sealcache/internal/names"
)

const (
	// maxGroups, maxUnnamed and maxKeys bound how many groups and keys are counted separately. The bound of keys with an id is
	// higher, so that planted data keys do not hide them.
	maxGroups  = 4096
	showGroups = 64
	minGroup   = 10
	maxUnnamed = 4096
	maxKeys    = 2 * maxUnnamed

	otherGroup    = "(other)"
	moreKeysLabel = "more keys"
)

// shownGroups returns the largest groups, and one of the rest.
func (a *auditor) shownGroups(all *findings) []Group {
	var shown []Group
	rest := Group{Prefix: otherGroup}
	for name, t := range all.groups {
		if name == otherGroup || len(a.groups) == 0 && t.values() < minGroup {
			rest.add(t)
			continue
		}
		shown = append(shown, Group{name, *t})
	}
	slices.SortFunc(shown, func(x, y Group) int {
		if d := y.values() - x.values(); d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(x.Prefix, y.Prefix)
	})
	if len(a.groups) == 0 && len(shown) > showGroups {
		for i := range shown[showGroups:] {
			rest.add(&shown[showGroups+i].Tally)
		}
		shown = shown[:showGroups]
	}
	if rest.values() > 0 {
		shown = append(shown, rest)
	}
	return shown
}

// groupOf returns the prefix under which a name is counted. Text that does not look like a prefix may be a whole
// name.
func (a *auditor) groupOf(name string) string {
	if len(a.groups) > 0 {
		best := otherGroup
		for _, g := range a.groups {
			if strings.HasPrefix(name, g) && (best == otherGroup || len(g) > len(best)) {
				best = g
			}
		}
		return best
	}
	if group, ok := names.Group(name); ok {
		return group
	}
	return otherGroup
}
