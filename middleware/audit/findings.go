package audit

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// findings are the counts of one batch, or of one master.
type findings struct {
	seen       int64
	excluded   int64
	otherNames int64
	total      Tally
	groups     names.Groups[Tally]
	keys       map[keyName]*KeyUse
	prfKeys    map[prfUse]*PRFKeyUse
	jobs       JobTally
	tagSets    int64
	keyChecks  KeyChecks
	runRecords int64
	notRead    int64
	others     map[string]int64
	samples    map[string][]string
}

// keyName identifies the key of a sealed value, as far as the value names it.
type keyName struct {
	named bool
	id    uint32
	label string
}

func nameOf(ct []byte) keyName {
	k := wire.KeyOf(ct)
	return keyName{named: k.HasID, id: k.ID, label: k.String()}
}

func (k keyName) use(u KeyUse) KeyUse {
	u.Key, u.ID, u.HasID = k.label, k.id, k.named
	return u
}

func (f *findings) add(o *findings, samples int) {
	f.seen += o.seen
	f.excluded += o.excluded
	f.otherNames += o.otherNames
	f.total.add(&o.total)
	f.jobs.add(&o.jobs)
	f.tagSets += o.tagSets
	f.keyChecks.Values += o.keyChecks.Values
	f.keyChecks.Unreadable += o.keyChecks.Unreadable
	f.runRecords += o.runRecords
	f.notRead += o.notRead
	for g, t := range o.groups {
		f.groups.Of(g).add(t)
	}
	for k, u := range o.keys {
		f.useOf(k).add(u)
	}
	for k, u := range o.prfKeys {
		f.prfKey(k).add(u)
	}
	for t, n := range o.others {
		f.other(t, n)
	}
	for what, names := range o.samples {
		for _, name := range names {
			f.sample(what, name, samples)
		}
	}
}

// useOf returns the counts of a key. Keys beyond the bounds share counts, because an attacker can plant any id and any data key.
func (f *findings) useOf(k keyName) *KeyUse {
	if f.keys == nil {
		f.keys = make(map[keyName]*KeyUse)
	}
	switch {
	case f.keys[k] != nil:
	case k.named && len(f.keys) >= maxKeys:
		k = keyName{label: moreKeysLabel}
	case !k.named && k.label != moreKeysLabel && len(f.keys) >= maxUnnamed:
		k = keyName{label: "more data keys"}
	}
	if f.keys[k] == nil {
		f.keys[k] = new(KeyUse)
	}
	return f.keys[k]
}

// key counts a value under a key.
func (f *findings) key(k keyName, bytes int64, unreadable bool) {
	u := f.useOf(k)
	u.Amount.add(1, bytes)
	if unreadable {
		u.Unreadable.add(1, bytes)
	}
}

func (f *findings) other(kind string, n int64) {
	if f.others == nil {
		f.others = make(map[string]int64)
	}
	f.others[kind] += n
}

func (f *findings) sample(what, name string, most int) {
	if len(f.samples[what]) >= most {
		return
	}
	if f.samples == nil {
		f.samples = make(map[string][]string)
	}
	f.samples[what] = append(f.samples[what], name)
}

func sortKeys(keys []KeyUse) {
	slices.SortFunc(keys, func(a, b KeyUse) int {
		return cmp.Or(cmp.Compare(b.Values, a.Values), strings.Compare(a.Key, b.Key))
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
