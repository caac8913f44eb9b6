package migrate

import (
	"bytes"
	"fmt"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// findings are what was found in a batch, or in all.
type findings struct {
	seen     int64
	excluded int64
	foreign  int64
	total    Tally
	groups   map[string]*Tally
	keys     map[keyName]*Amount
	jobs     JobTally
	tagSets  int64
	others   map[string]int64
	samples  map[string][]string
}

// keyName is how sealed values name their key.
type keyName struct {
	envelope bool
	named    bool
	id       uint32
	label    string
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

func (f *findings) key(k keyName, n, bytes int64) {
	if f.keys == nil {
		f.keys = make(map[keyName]*Amount)
	}
	if _, ok := f.keys[k]; !ok && !k.named && len(f.keys) >= maxUnnamed {
		k = keyName{envelope: true, label: "more data keys"}
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

// nameOf is how a ciphertext names its key.
func nameOf(ct []byte) keyName {
	c := wire.Peek(ct)
	k := keyName{envelope: c.Envelope, named: c.HasKeyID, id: c.KeyID}
	if k.named || !c.Envelope {
		return k
	}
	wrapped := ct[4 : 4+c.WrappedBytes]
	if version, ok := vaultVersion(wrapped); ok {
		k.label = vaultLabel + version
		return k
	}
	if c.Salt != "" {
		k.label = "KEK passphrase, salt " + c.Salt
		return k
	}
	k.label = "data key " + c.DataKey
	return k
}

const vaultLabel = "KEK vault:"

// vaultVersion finds the version in "vault:v3:...", as Vault's transit engine writes it.
func vaultVersion(wrapped []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(wrapped, []byte("vault:v"))
	digits, _, ok2 := bytes.Cut(rest, []byte(":"))
	if !ok || !ok2 || len(digits) == 0 || len(digits) > 9 || len(bytes.Trim(digits, "0123456789")) > 0 {
		return "", false
	}
	return "v" + string(digits), true
}

func (k keyName) use(a Amount) KeyUse {
	u := KeyUse{ID: k.id, Named: k.named, Key: k.label, Amount: a}
	switch {
	case k.named && k.envelope:
		u.Key = fmt.Sprintf("KEK key %d", k.id)
	case k.named:
		u.Key = fmt.Sprintf("key %d", k.id)
	case k.label == "":
		u.Key = "unnamed"
	}
	return u
}
