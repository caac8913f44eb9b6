package audit

import (
	"strings"

	"github.com/sealcache/sealcache/internal/names"
)

const (
	// maxUnnamed and maxKeys bound how many keys are counted separately. The bound of keys with an id is higher, so that planted
	// data keys do not hide them.
	showGroups = 64
	minGroup   = 10
	maxUnnamed = 4096
	maxKeys    = 2 * maxUnnamed

	moreKeysLabel = "more keys"
)

// shownGroups returns the largest groups, and one of the rest.
func (a *auditor) shownGroups(all *findings) []Group {
	most, few := showGroups, int64(minGroup)
	if len(a.groups) > 0 {
		most, few = len(all.groups), 0
	}
	largest, others := all.groups.Largest(most, few, (*Tally).values)
	var shown []Group
	for _, name := range largest {
		shown = append(shown, Group{name, *all.groups[name]})
	}
	rest := Group{Prefix: names.Other}
	for _, name := range others {
		rest.add(all.groups[name])
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
		best := names.Other
		for _, g := range a.groups {
			if strings.HasPrefix(name, g) && (best == names.Other || len(g) > len(best)) {
				best = g
			}
		}
		return best
	}
	if group, ok := names.Group(name); ok {
		return group
	}
	return names.Other
}
