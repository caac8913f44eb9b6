package rediswalk

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// Filter matches stored names by prefixes, and remembers which prefixes have matched.
type Filter struct {
	prefixes []string // of stored names
	matched  []atomic.Bool
}

// NewFilter returns a filter for a scan of the stored names that start with scope. The prefixes are of keys in a
// namespace, "" for none, or of stored names if stored is set. A prefix that cannot match, or that covers the whole
// scope, is an error. Errors name a prefix by its position, because prefixes are key names.
func NewFilter(what string, prefixes []string, namespace string, stored bool, scope string) (*Filter, error) {
	f := &Filter{matched: make([]atomic.Bool, len(prefixes))}
	for i, p := range prefixes {
		if p == "" {
			return nil, fmt.Errorf("%s[%d] is empty, so it matches every key (remove it)", what, i)
		}
		if !stored && namespace != "" {
			p = namespace + ":" + p
		}
		switch {
		case strings.HasPrefix(scope, p):
			return nil, fmt.Errorf("%s[%d] excludes every key that would be scanned (make it longer, or remove it)", what, i)
		case !strings.HasPrefix(p, scope):
			return nil, fmt.Errorf("%s[%d] can never match a key of this scan (%s)", what, i, remedy(stored))
		}
		f.prefixes = append(f.prefixes, p)
	}
	return f, nil
}

func remedy(stored bool) string {
	if stored {
		return "write full Redis keys, because Config.Stored is set"
	}
	return "let it begin with the prefix of the keys that are scanned"
}

// Match reports whether a stored name starts with one of the prefixes.
func (f *Filter) Match(name string) bool {
	matched := false
	for i, p := range f.prefixes { // all of them: one prefix may start with another
		if strings.HasPrefix(name, p) {
			f.matched[i].Store(true)
			matched = true
		}
	}
	return matched
}

// Matched reports for each prefix whether it has matched.
func (f *Filter) Matched() []bool {
	m := make([]bool, len(f.matched))
	for i := range f.matched {
		m[i] = f.matched[i].Load()
	}
	return m
}

// Restore sets which prefixes an earlier run has matched.
func (f *Filter) Restore(matched []bool) {
	for i := range min(len(matched), len(f.matched)) {
		f.matched[i].Store(matched[i])
	}
}

// Unmatched returns the given prefixes that have not matched.
func (f *Filter) Unmatched(given []string) []string {
	var none []string
	for i := range f.matched {
		if !f.matched[i].Load() {
			none = append(none, given[i])
		}
	}
	return none
}
