package audit

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
)

// Each finding alone forbids Yes, and each field of the report is either a finding or named here as harmless.
func TestEachFindingForbidsYes(t *testing.T) {
	t.Parallel()
	const id, primary = 17, 18
	started := time.Now()
	good := func() *Report {
		return &Report{Complete: true, Started: started, Seen: 10, Keys: []KeyUse{{Key: "key 18", ID: primary, HasID: true, Amount: Amount{Values: 10}}}}
	}
	conditions := Conditions{
		Keyset:          []aead.KeyInfo{{ID: id, Prefix: "TINK", Status: keyset.Enabled}, {ID: primary, Primary: true, Prefix: "TINK", Status: keyset.Enabled}},
		NotPrimarySince: started.Add(-48 * time.Hour),
	}
	answer, why := good().MayDestroy(id, conditions)
	require.Equal(t, Yes, answer, why)

	some := Amount{Values: 1, Bytes: 1}
	findings := map[string]func(r *Report){
		"Complete":       func(r *Report) { r.Complete = false },
		"Unwatched":      func(r *Report) { r.Unwatched = true },
		"Moved":          func(r *Report) { r.Moved = true },
		"Started":        func(r *Report) { r.Started = started.Add(-47 * time.Hour) },
		"Prefix":         func(r *Report) { r.Prefix = "shop:" },
		"Exclude":        func(r *Report) { r.Exclude = []string{"x"} },
		"Replica":        func(r *Report) { r.Replica = true },
		"OtherDatabases": func(r *Report) { r.OtherDatabases = []int{3} },
		"Seen":           func(r *Report) { r.Seen = 0 },
		"Excluded":       func(r *Report) { r.Excluded = 10 },
		"OtherNames":     func(r *Report) { r.OtherNames = 10 },
		"OtherTypes":     func(r *Report) { r.OtherTypes = map[string]int64{"hash": 1} },
		"Total":          func(r *Report) { r.Total.UnknownFormat = some },
		"NotRead":        func(r *Report) { r.NotRead = 1 },
		"Jobs":           func(r *Report) { r.Jobs.Unparsed = 1 },
		"Keys":           func(r *Report) { r.Keys = append(r.Keys, KeyUse{Key: "key 17", ID: id, HasID: true, Amount: some}) },
		"Keys: unreadable": func(r *Report) {
			r.Keys = append(r.Keys, KeyUse{Key: "key 17", ID: id, HasID: true, Amount: some, Unreadable: some})
		},
		"Keys: unnamed":   func(r *Report) { r.Keys = append(r.Keys, KeyUse{Key: "unnamed", Amount: some}) },
		"Keys: held":      func(r *Report) { r.Keys = append(r.Keys, KeyUse{Key: heldLabel, Amount: some}) },
		"Keys: uncounted": func(r *Report) { r.Keys = append(r.Keys, KeyUse{Key: moreKeysLabel, Amount: some}) },
		"Keys: outside":   func(r *Report) { r.Keys = append(r.Keys, KeyUse{Key: "key 19", ID: 19, HasID: true, Amount: some}) },
		"Jobs: payloads":  func(r *Report) { r.Jobs.Payloads.UnknownFormat = some },
		"Jobs: results":   func(r *Report) { r.Jobs.Results.UnknownFormat = some },
		"Jobs: errors":    func(r *Report) { r.Jobs.Errors.UnknownFormat = some },
		"Jobs: running":   func(r *Report) { r.Jobs.Running.UnknownFormat = some },
		"Jobs: scheduled": func(r *Report) { r.Jobs.Scheduled.UnknownFormat = some },
		"Jobs: headers":   func(r *Report) { r.Jobs.Headers.UnknownFormat = some },
		"OtherTypes: strings": func(r *Report) {
			r.OtherTypes, r.IgnoredTypes = map[string]int64{hyperLogLog: 1}, []string{hyperLogLog}
		},
	}
	for name, find := range findings {
		r := good()
		find(r)
		answer, why := r.MayDestroy(id, conditions)
		require.NotEqual(t, Yes, answer, name)
		require.NotEmpty(t, why, name)
	}
	// These fields describe the run, or repeat other fields.
	harmless := map[string]bool{}
	for _, name := range []string{
		"Schema", "Elapsed", "Servers", "Namespace", "OtherApplications", "Namespaces", "OneDatabase", "IgnoredTypes", "UnmatchedExcludes",
		"UnmatchedApplications", "Masters", "Restarts", "Databases", "Opened", "CountsAsUse", "Groups", "KeyChecks", "RunRecords", "TagSets",
		"Samples", "Doubts", "HiddenNames", "GivenPRFKeys",
	} {
		harmless[name] = true
	}
	for i := range reflect.TypeFor[Report]().NumField() {
		name := reflect.TypeFor[Report]().Field(i).Name
		require.True(t, harmless[name] != (findings[name] != nil), "the field %s must be in one of the lists", name)
	}

	for name, change := range map[string]func(c *Conditions){
		"no keyset":      func(c *Conditions) { c.Keyset = nil },
		"no such key":    func(c *Conditions) { c.Keyset = c.Keyset[1:] },
		"no primary key": func(c *Conditions) { c.Keyset = c.Keyset[:1] },
		"no time":        func(c *Conditions) { c.NotPrimarySince = time.Time{} },
		"a slow reload":  func(c *Conditions) { c.Reload = 72 * time.Hour },
		"a later time in the keyset": func(c *Conditions) {
			c.Keyset[0].Times.Demoted = started.Add(-23 * time.Hour)
		},
	} {
		c := conditions
		c.Keyset = slices.Clone(conditions.Keyset)
		change(&c)
		answer, why := good().MayDestroy(id, c)
		require.Equal(t, Unknown, answer, name)
		require.NotEmpty(t, why, name)
	}
	conditions.Keyset[0].Times.Demoted = started.Add(-25 * time.Hour) // later than NotPrimarySince, and long enough ago
	answer, why = good().MayDestroy(id, conditions)
	require.Equal(t, Yes, answer, why)
	_, why = good().MayDestroy(4711, conditions)
	require.Contains(t, why[0], "the given keyset has no key")
}

// Nothing enables a destroyed key again, so the remedy for its values is another one than for those of a disabled key.
func TestValuesUnderADestroyedKey(t *testing.T) {
	t.Parallel()
	some := Amount{Values: 1, Bytes: 1}
	r := &Report{Complete: true, Started: time.Now(), Seen: 1, Keys: []KeyUse{{Key: "key 17", ID: 17, HasID: true, Amount: some, Unreadable: some}}}
	c := Conditions{Keyset: []aead.KeyInfo{{ID: 17, Prefix: "TINK", Status: keyset.Destroyed}, {ID: 18, Primary: true, Prefix: "TINK", Status: keyset.Enabled}}}
	answer, why := r.MayDestroy(17, c)
	require.Equal(t, Unknown, answer)
	require.Contains(t, why, "1 values carry the id of key 17, which was destroyed, so nothing opens them (delete these values)")
	require.NotContains(t, strings.Join(why, "\n"), "enable it")
}

// Ids that an attacker has planted take bounded memory, and hide no key from MayDestroy.
func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	var all findings
	const batches = 3
	for b := range batches {
		var batch findings
		for i := range maxKeys {
			id := uint32(b*maxKeys + i + 1)
			batch.key(keyName{named: true, id: id, label: "key"}, 1, false)
		}
		all.add(&batch, 0)
	}
	require.Len(t, all.keys, maxKeys+1)
	values := int64(0)
	r := Report{Complete: true, Seen: 1}
	for k, u := range all.keys {
		values += u.Values
		r.Keys = append(r.Keys, k.use(*u))
	}
	require.EqualValues(t, batches*maxKeys, values)
	answer, why := r.MayDestroy(batches*maxKeys, Conditions{})
	require.Equal(t, Unknown, answer)
	require.Contains(t, why, "16384 values contain key ids beyond the 8192 in the report, perhaps this id (find them with Config.Keys and Config.Samples)")
}
