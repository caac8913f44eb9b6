package audit

import (
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
)

// findings are what was found in a batch, or in all.
type findings struct {
	seen     int64
	excluded int64
	foreign  int64
	total    Tally
	groups   map[string]*Tally
	keys     map[cachevalue.KeyName]*Amount
	jobs     JobTally
	tagSets  int64
	others   map[string]int64
	samples  map[string][]string
}

func (f *findings) add(o *findings, samples int) {
	f.seen += o.seen
	f.excluded += o.excluded
	f.foreign += o.foreign
	f.total.add(&o.total)
	f.jobs.add(&o.jobs)
	f.tagSets += o.tagSets
	for g, t := range o.groups {
		f.group(g).add(t)
	}
	for k, n := range o.keys {
		f.key(k, n.Values, n.Bytes)
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

func (f *findings) group(name string) *Tally {
	t, ok := f.groups[name]
	if !ok {
		if len(f.groups) >= maxGroups && name != otherGroup {
			return f.group(otherGroup)
		}
		if f.groups == nil {
			f.groups = make(map[string]*Tally)
		}
		t = new(Tally)
		f.groups[name] = t
	}
	return t
}

func (f *findings) key(k cachevalue.KeyName, n, bytes int64) {
	if f.keys == nil {
		f.keys = make(map[cachevalue.KeyName]*Amount)
	}
	if _, ok := f.keys[k]; !ok && !k.Named && len(f.keys) >= maxUnnamed {
		k = cachevalue.KeyName{Envelope: true, Label: "more data keys"}
	}
	if f.keys[k] == nil {
		f.keys[k] = new(Amount)
	}
	f.keys[k].add(n, bytes)
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

func keyUse(k cachevalue.KeyName, a Amount) KeyUse {
	return KeyUse{ID: k.ID, Named: k.Named, Key: k.String(), Amount: a}
}
