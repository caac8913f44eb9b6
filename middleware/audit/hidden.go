package audit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// HiddenNames are the entries under hidden names (middleware.WithHiddenKeys and WithOneWayKeys). Their values name the PRF
// key, so that counting them needs no keys.
type HiddenNames struct {
	Amount
	// OneWay counts the values that do not contain their cache key. They cannot be moved to another PRF key.
	OneWay int64 `json:"one_way"`
	// Older counts values under a given PRF key that is not the primary one. Unknown counts values under a PRF key that
	// was not given. Without PRF keys, both are 0.
	Older   int64 `json:"older"`
	Unknown int64 `json:"unknown"`
	// PRFKeys are the PRF keys that the values name. Beyond 1024 of them, the rest count as id 0.
	PRFKeys []PRFKeyUse `json:"prf_keys,omitempty"`
}

// PRFKeyUse counts the values whose names are hidden under one PRF key.
type PRFKeyUse struct {
	ID uint32 `json:"key_id"`
	// Status is "primary", "older" or "unknown" if PRF keys were given.
	Status string `json:"status,omitempty"`
	Amount
	OneWay int64 `json:"one_way"`
	// Unreadable is the part that does not open under the given keys. It may be planted.
	Unreadable Amount `json:"unreadable"`
}

// The states of a PRF key in a report.
const (
	prfPrimary = "primary"
	prfOlder   = "older"
	prfUnknown = "unknown"
)

// prfUse is the map key for the counts of a PRF key. A value may name a key of the set and be hidden under another one.
type prfUse struct {
	id    uint32
	posed bool
}

// maxPRFKeys bounds the ids that are counted separately, because an attacker can plant any id. The rest share the id
// morePRFKeys, which no key has.
const (
	maxPRFKeys  = 1024
	morePRFKeys = 0
)

func (f *findings) prfKey(k prfUse) *PRFKeyUse {
	if f.prfKeys == nil {
		f.prfKeys = make(map[prfUse]*PRFKeyUse)
	}
	if f.prfKeys[k] == nil && len(f.prfKeys) >= maxPRFKeys {
		k = prfUse{id: morePRFKeys}
	}
	if f.prfKeys[k] == nil {
		f.prfKeys[k] = new(PRFKeyUse)
	}
	return f.prfKeys[k]
}

func (u *PRFKeyUse) add(o *PRFKeyUse) {
	u.Amount.add(o.Values, o.Bytes)
	u.OneWay += o.OneWay
	u.Unreadable.add(o.Unreadable.Values, o.Unreadable.Bytes)
}

// countHidden counts a value if its name is hidden. posed reports that its name was hidden by another PRF key than the one
// that the value names.
func (f *findings) countHidden(h wire.Header, bytes int64, unreadable, posed bool) {
	if h.Flags&wire.Hidden == 0 {
		return
	}
	u := PRFKeyUse{Amount: Amount{1, bytes}}
	if h.Flags&wire.Named == 0 {
		u.OneWay = 1
	}
	if unreadable {
		u.Unreadable = u.Amount
	}
	f.prfKey(prfUse{h.PRFKey, posed}).add(&u)
}

// hidden returns what was found under hidden names.
func (a *auditor) hidden(f *findings) HiddenNames {
	var all HiddenNames
	set := a.prfSet()
	for k, u := range f.prfKeys {
		u := *u
		u.ID = k.id
		switch {
		case set == nil:
		case set.PRFs[k.id] == nil || k.posed:
			u.Status = prfUnknown
			all.Unknown += u.Values
		case k.id == set.PrimaryID:
			u.Status = prfPrimary
		default:
			u.Status = prfOlder
			all.Older += u.Values
		}
		all.add(u.Values, u.Bytes)
		all.OneWay += u.OneWay
		all.PRFKeys = append(all.PRFKeys, u)
	}
	slices.SortFunc(all.PRFKeys, func(x, y PRFKeyUse) int {
		return cmp.Or(cmp.Compare(y.Values, x.Values), cmp.Compare(x.ID, y.ID), strings.Compare(x.Status, y.Status))
	})
	return all
}

// MayDisable answers whether the PRF key with this id may be disabled without making any entry a miss. It gives the reasons
// unless the answer is Yes.
//
// Yes requires a complete scan that left nothing out, in which no value names the key. The key must be one of the PRF keys
// in the Config and not the primary one. It holds for the scope of the report: audit every namespace that uses the key.
// While the key is enabled, SetIfNotExists, Increment and Update may create entries under it. docs/hiding.md says what to do
// about those.
func (r *Report) MayDisable(id uint32) (Answer, []string) {
	var no, unreadable notes
	known, uncounted := false, int64(0)
	for _, k := range r.HiddenNames.PRFKeys {
		switch k.ID {
		case morePRFKeys:
			uncounted += k.Values
		case id:
			no.count(k.Values-k.Unreadable.Values, fmt.Sprintf("values have names hidden with PRF key %d (move them with \"sealcache reseal\", or let them expire)", id))
			unreadable.count(k.Unreadable.Values, fmt.Sprintf("values carry the id of PRF key %d but do not open: %s", id, unreadableCause))
		}
	}
	for _, k := range r.GivenPRFKeys {
		known = known || k == id
	}
	if known && r.GivenPRFKeys[0] == id {
		no = append(no, "the key is the primary PRF key, so it hides new names (make another key primary)")
	}
	if len(no) > 0 {
		return No, no
	}
	doubts := slices.Concat(r.scanDoubts(), r.emptyDoubts(), unreadable)
	switch {
	case len(r.GivenPRFKeys) == 0:
		doubts = append(doubts, "the PRF keys were not given, so the key may be the primary one (set Config.HiddenKeys or Config.OneWayKeys)")
	case !known:
		doubts = append(doubts, fmt.Sprintf("the given PRF keys do not include key %d", id))
	}
	if r.Prefix == "" {
		doubts = append(doubts, r.leftDatabases()...)
	}
	doubts.count(uncounted, fmt.Sprintf("values contain PRF key ids beyond the %d in the report, perhaps this id (find them with Config.Keys and Config.Samples)", maxPRFKeys))
	doubts.count(r.Excluded, "names were excluded, so their values were not examined (run the audit without Config.Exclude)")
	doubts.count(r.unknownFormat(), "values are of unknown format (a newer release of sealcache may read them)")
	if r.Prefix != "" && strings.TrimPrefix(r.Prefix, r.Namespace+":") != "" {
		doubts = append(doubts, "only some names were examined (run the audit without Config.Prefix)")
	}
	if r.Replica {
		doubts = append(doubts, "a replica may lack entries of its master (audit the master)")
	}
	if len(doubts) > 0 {
		return Unknown, doubts
	}
	return Yes, nil
}

// Pseudonyms returns the keys under which the entry of an application's key may be stored if names are hidden. There is one
// for each PRF key, the primary one first. Open takes them in place of the key, and Inspect after the namespace and a
// colon.
func Pseudonyms(namespace, key string, set *prf.Set) ([]string, error) {
	names, err := pseudonym.New(namespace, set)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	all, err := names.All(key)
	if err != nil {
		return nil, fmt.Errorf("audit: cannot compute the hidden name of the entry: %w", err)
	}
	return all, nil
}

// prfSet is the set of PRF keys that was given, or nil.
func (c *Config) prfSet() *prf.Set {
	if c.OneWayKeys != nil {
		return c.OneWayKeys
	}
	return c.HiddenKeys
}

// opensNames reports whether filters match the keys that are sealed in values.
func (a *auditor) opensNames() bool { return a.HiddenKeys != nil && a.filters != "" }

// nameFilters lists the settings that are prefixes of keys.
func (c *Config) nameFilters() string {
	var given []string
	add := func(setting string, is bool) {
		if is {
			given = append(given, setting)
		}
	}
	add("Config.Prefix", c.Prefix != "")
	add("Config.Exclude", len(c.Exclude) > 0)
	add("Config.GroupBy", len(c.GroupBy) > 0)
	add("Config.OtherApplications", len(c.OtherApplications) > 0 && c.Namespace != "" && !c.Stored)
	return strings.Join(given, ", ")
}

// checkHidden checks the PRF keys, and makes the pseudonyms.
func (a *auditor) checkHidden() (errs []error) {
	if a.prfSet() == nil {
		return nil
	}
	a.filters = a.nameFilters()
	switch {
	case a.HiddenKeys != nil && a.OneWayKeys != nil:
		errs = append(errs, errors.New("Config.HiddenKeys and Config.OneWayKeys cannot be combined"))
	case a.OneWayKeys != nil && a.filters != "":
		errs = append(errs, fmt.Errorf("prefixes cannot match names that Config.OneWayKeys hides (unset %s)", a.filters))
	case a.HiddenKeys != nil && a.filters != "" && len(a.Keys) == 0:
		errs = append(errs, fmt.Errorf("%s: a prefix can match hidden names only after decryption (set Config.Keys)", a.filters))
	}
	a.names = make(map[string]*pseudonym.Set)
	for _, ns := range append([]string{""}, a.Namespaces...) {
		var err error
		if a.names[ns], err = pseudonym.New(ns, a.prfSet()); err != nil {
			return append(errs, err)
		}
	}
	return errs
}

// givenPRFKeys returns the ids of the PRF keys, the primary one first.
func (a *auditor) givenPRFKeys() []uint32 {
	names := a.names[""]
	if names == nil {
		return nil
	}
	ids := make([]uint32, names.Len())
	for i := range ids {
		ids[i] = names.ID(i)
	}
	return ids
}

// mayBeHidden reports whether a stored name may be hidden, so that filters cannot decide on it by its form.
func (a *auditor) mayBeHidden(name string) bool {
	if !a.opensNames() {
		return false
	}
	_, key := a.namespaceOf(name)
	return pseudonym.Is(key)
}

// matches reports whether a stored name is in the scope and matched by no filter. It counts one that is not.
func (a *auditor) matches(name string, f *findings) bool {
	switch {
	case !strings.HasPrefix(name, a.scope):
		f.seen--
	case a.exclude.Match(name):
		f.excluded++
	case a.others.Match(name):
		f.otherNames++
	default:
		return true
	}
	return false
}

// plainNameOf returns the stored name that an opened value would have if names were not hidden. It also reports whether
// another PRF key than the one that the value names has hidden it. A value that does not contain its cache key keeps its
// name.
func (a *auditor) plainNameOf(name string, h wire.Header, plaintext []byte) (plain string, posed bool, err error) {
	if h.Flags&wire.Hidden == 0 {
		return name, false, nil
	}
	if h.Flags&wire.Named == 0 {
		if a.opensNames() {
			return "", false, fmt.Errorf("%w: Redis has names that are hidden one way, which prefixes cannot match (unset %s)", ErrConfig, a.filters)
		}
		return name, false, nil
	}
	labels, err := content.Labels(h, plaintext)
	if err != nil {
		return name, false, nil //nolint:nilerr // the value is counted like any other
	}
	ns, key := a.namespaceOf(name)
	if names := a.names[ns]; names != nil {
		if i := names.Index(h.PRFKey); i >= 0 {
			p, err := names.AppendKey(nil, i, labels.Key)
			posed = err != nil || string(p) != key
		}
	}
	return strings.TrimSuffix(name, key) + labels.Key, posed, nil
}

func (n *HiddenNames) writeText(b *strings.Builder) {
	if n.Values > 0 {
		fmt.Fprintf(b, "%s under hidden names, %d of them hidden one way\n", count(n.Values, "value", "values"), n.OneWay)
	}
	for _, k := range n.PRFKeys {
		fmt.Fprintf(b, "hidden by %-26s %12s (%d B)", strings.TrimSpace(fmt.Sprintf("PRF key %d %s", k.ID, k.Status)), count(k.Values, "value", "values"), k.Bytes)
		if k.Unreadable.Values > 0 {
			fmt.Fprintf(b, ", %d unreadable", k.Unreadable.Values)
		}
		b.WriteByte('\n')
	}
}
